# SPDX-License-Identifier: Apache-2.0
"""The comparison of the receive designs, and that contrary figures give the contrary sentence."""

from __future__ import annotations

from typing import Any

import pytest
from tests import factories

from zclab.analysis import verdict
from zclab.analysis.document import RunDocument
from zclab.lab.model import Validity
from zclab.plan import plan, schedule
from zclab.report import receive_designs


def document_of(cost: dict[tuple[bool, str], float], **changes: Any) -> RunDocument:
    """Return a run in which a design's CPU cost depends on whether the reader keeps what it is given."""
    manifest = factories.manifest(
        plan=plan.load("receive_designs")
        .select(seed=1, ip_versions=[6], message_bytes=[262144])
        .model_copy(update={"integrity_bytes": 0, "bytes": None, "seconds": factories.WINDOW_SECONDS}),
        validity=factories.manifest().expectations.validity.model_copy(
            update={"mapped_fraction": _anything()}
        ),
        **changes,
    )
    made = []
    for number, planned in enumerate(schedule.measurements(manifest.plan)):
        factor = 1 + (number % 5 - 2) * 0.002
        seconds = cost[planned.keep_bytes > 0, planned.receive_mode] * factor
        made.append(factories.record(planned, receiver_cpu_s=seconds))
    return verdict.judge(manifest, made)


def _expected() -> Validity:
    return factories.manifest().expectations.validity


def _anything() -> dict[str, Any]:
    bounds = _expected().mapped_fraction["map_once"]
    return dict.fromkeys(("map_each", "map_once", "map_once_hybrid"), bounds)


def costs(each: float, once: float) -> dict[str, float]:
    return {"copy": 1.0, "map_each": each, "map_once": once, "map_once_hybrid": once}


def both(reuse: dict[str, float], keep: dict[str, float]) -> dict[tuple[bool, str], float]:
    return {
        (keeps, mode): cost for keeps, arm in ((False, reuse), (True, keep)) for mode, cost in arm.items()
    }


@pytest.mark.parametrize(
    ("reuse", "keep", "said"),
    [
        (costs(0.6, 0.4), costs(0.6, 0.6), ("sizes: map_once is cheaper.", "no difference was found")),
        (costs(0.4, 0.4), costs(0.4, 0.6), ("no difference was found", "sizes: map_once costs more.")),
    ],
    ids=["cheaper to reuse", "dearer to keep"],
)
def test_the_sentences_follow_from_the_figures(
    reuse: dict[str, float], keep: dict[str, float], said: tuple[str, str]
) -> None:
    document = document_of(both(reuse, keep))
    first, second = receive_designs.sentences(document)
    assert "reuses one area" in first and said[0] in first
    assert "keeps the pages it is given" in second and said[1] in second
    ratio = reuse["map_once"] / reuse["map_each"]
    (held, _) = receive_designs.by_reader(document)
    assert all(found == pytest.approx(ratio, rel=0.02) for found in held.ratios.values())


def test_the_table_has_a_row_for_each_reader_and_size() -> None:
    document = document_of(both(costs(0.6, 0.4), costs(0.6, 0.6)), emulated=True, accelerator="tcg")
    table = receive_designs.table(document)
    assert table is not None and "emulated" in str(table.title)
    assert table.row_count == 2 * len(plan.load("receive_designs").chunk_bytes)
    assert "(an emulated CPU)" in receive_designs.sentences(document)[0]


def test_where_a_guest_counts_instructions_they_are_compared() -> None:
    cpu = document_of(both(costs(0.6, 0.4), costs(0.6, 0.6)), emulated=True, accelerator="tcg")
    figures = [
        one.model_copy(
            update={"guest_instructions_per_mib": 1e4 * one.receiver_cpu.usec_per_mib}  # type: ignore[union-attr, operator]
        )
        for one in cpu.measurements
    ]
    compared = [
        one.model_copy(update={"metric": "guest_instructions_per_mib"})
        for one in cpu.comparisons
        if one.metric == "receiver_usec_per_mib"
    ]
    document = cpu.model_copy(update={"measurements": figures, "comparisons": compared})
    table = receive_designs.table(document)
    assert table is not None and "instructions of the whole guest" in str(table.title)
    first, second = receive_designs.sentences(document)
    assert "of map_each (instructions of the whole guest)" in first and "is cheaper" in first
    assert "no difference was found" in second


def test_a_run_without_designs_has_none() -> None:
    manifest = factories.manifest()
    document = verdict.judge(manifest, factories.records(manifest))
    assert receive_designs.table(document) is None and receive_designs.sentences(document) == []


def test_the_main_job_has_one_row_of_what_was_compared() -> None:
    """Its copying arms at another pace, or to a zerocopy sender, are not of that row."""
    changes = {"seconds": factories.WINDOW_SECONDS, "integrity_bytes": 0, "aa_pairs": 0}
    whole = plan.load("virtual").select(seed=1, ip_versions=[6])
    manifest = factories.manifest(
        plan=whole.model_copy(update=changes | {"pace_gbit_per_s": [None, 5.0, 5.5, 6.0]}),
        validity=_expected().model_copy(update={"mapped_fraction": _anything()}),
    )
    made = []
    for planned in schedule.measurements(manifest.plan):
        other = planned.pace_gbit_per_s is not None or planned.send_mode == "zerocopy"
        cost = 0.9 if other else costs(0.6, 0.4)[planned.receive_mode]
        made.append(factories.record(planned, receiver_cpu_s=cost))
    document = verdict.judge(manifest, made)
    assert all(one.valid for one in document.measurements)
    table = receive_designs.table(document)
    assert table is not None
    (row,) = ([column._cells[at] for column in table.columns] for at in range(table.row_count))
    mib = factories.WINDOW_BYTES / factories.MIB
    figures = [f"{costs(0.6, 0.4)[mode] * 1e6 / mib:.0f}" for mode in ("copy", "map_each", "map_once")]
    assert row == ["reuses", "524288", *figures, "-"]
    assert len(receive_designs.sentences(document)) == 1
