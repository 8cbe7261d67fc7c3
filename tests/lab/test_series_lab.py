# SPDX-License-Identifier: Apache-2.0
"""The kernel series on two virtual hosts: interfaces, locks, what it leaves alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.virtual_lab import LabUnderTest

from zclab.plan import claims

pytestmark = [pytest.mark.lab, pytest.mark.kernel]

#: Claims of the interfaces, but for what a lock report and a comparison of designs show.
CLAIMS = {name for name, claim in claims.load().items() if claim.kind == "semantic"} - {"M12", "M14"}
PLAN = {
    "seconds": 0.5,
    "warmup_seconds": 0.2,
    "repeats": 1,
    "integrity_bytes": 4194304,
    "message_bytes": [1048576],
    "chunk_bytes": [65536, 1048576],
    "pace_gbit_per_s": [None],
    "comparisons": [
        {
            "name": "mapping",
            "a": {"receive_mode": "map_once", "send_mode": "copy"},
            "b": {"receive_mode": "map_each", "send_mode": "copy"},
            "metrics": {"receiver_usec_per_mib": []},
        },
        {
            "name": "keeping",
            "a": {"receive_mode": "map_once", "send_mode": "copy", "keep_bytes": 4194304},
            "b": {"receive_mode": "map_each", "send_mode": "copy", "keep_bytes": 4194304},
            "metrics": {"receiver_usec_per_mib": []},
        },
    ],
}


@pytest.fixture(scope="module")
def series(shared_lab: LabUnderTest) -> LabUnderTest:
    """The shared lab with a kernel of the whole series."""
    shared_lab.use("full", PLAN)
    return shared_lab


def test_mmap_that_consumes_maps_what_the_link_brings(series: LabUnderTest) -> None:
    done, document = series.measure()
    assert done.status == 0, str(done)
    assert {one["integrity"] for one in document["measurements"] if one["phase"] == "integrity"} == {
        "verified"
    }
    best: dict[str, float] = {}
    for one in document["measurements"]:
        assert one["valid"], one["invalid_reasons"]
        mode = one["receive_mode"]
        best[mode] = max(best.get(mode, 0), one["mapped_fraction"])
        if one["phase"] == "compare":
            agree(one)
    assert best["map_each"] >= 0.95 and best["map_once"] >= 0.99
    assert series.shell("receiver1", "cat /proc/sys/net/ipv4/tcp_mmap_consume").strip() == "0"


def agree(one: dict[str, Any]) -> None:
    """See that the kernel has counted as mapped what the tool has, but for a chunk at either end."""
    assert abs(one["zerocopy_stat"]["mapped"] - one["mapped_bytes"]) <= 2 * one["chunk_bytes"]


def test_every_rule_of_every_interface_holds(series: LabUnderTest) -> None:
    """What is expected does not depend on the variant: where stock passes too, nothing else moved."""
    done = series.zclab("conformance", "--json")
    assert done.status == 0, str(done)
    rows = json.loads(done.stdout)["rows"]
    assert {claim for row in rows if row["verdict"] == "pass" for claim in row["claim_ids"]} >= CLAIMS
    skipped = {(row["abi"], row["row"]) for row in rows if row["verdict"] == "skipped"}
    assert skipped == {("map_each", "in-a-sockmap"), ("msg_zerocopy", "counter-wraps")}


@pytest.mark.nightly
def test_locks_and_memory_hold_on_a_kernel_that_checks_them(series: LabUnderTest) -> None:
    series.set("kernel.yml", "zclab_kernel_variant", "full-debug")
    series.up()
    done = series.zclab("lockdep", "--json")
    assert done.status == 0, str(done)
    found = json.loads(done.stdout)
    assert (found["kernel_variant"], found["expected"], found["verdict"]) == ("full-debug", [], "pass")
    assert not any(found["console_reports"].values())
    done = series.zclab("stress", "--seconds", "60", "--json")
    assert done.status == 0, str(done)
    (told,) = (one["outcome"] for one in json.loads(done.stdout)["hosts"])
    assert told["consumes"] and told["transferred"]["mapped"] > 0 and told["transferred"]["moved"] > 0
    assert not told["mismatch_count"] and not told["memory"]["grown"]
