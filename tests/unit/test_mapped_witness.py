# SPDX-License-Identifier: Apache-2.0
"""The second witness of mapped bytes: what the kernel counts against what the traffic tool says."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from tests import factories
from tests.factories import RECEIVER, changed

from zclab.analysis import mapped_witness, measurement, verdict
from zclab.analysis.document import MappedWitness
from zclab.host.state import mapped_bytes
from zclab.plan import schedule
from zclab.report import console as report
from zclab.runs.records import Manifest, Record
from zclab.traffic.copies import Copies, copies, rest

MANIFEST = factories.manifest()
MAPPING = next(one for one in schedule.measurements(MANIFEST.plan) if one.receive_mode == "map_once")
COPYING = next(one for one in schedule.measurements(MANIFEST.plan) if one.receive_mode == "copy")


def record(mapped: int, copied: int, planned: schedule.Measurement = MAPPING, **changes: Any) -> Record:
    found: dict[str, Any] = {
        "receiver.document.total.mapped_bytes": mapped,
        "receiver.document.total.copied_bytes": copied,
    }
    return changed(factories.record(planned), found | changes)


def counted(mapped: int, copied: int, kernel: int, planned: schedule.Measurement = MAPPING) -> Record:
    """Return a measurement on a kernel that counted so many mapped bytes meanwhile."""
    return record(
        mapped,
        copied,
        planned,
        **{f"before.{RECEIVER}.mapped_bytes": 10**12, f"after.{RECEIVER}.mapped_bytes": 10**12 + kernel},
    )


GIB = 2**30


@pytest.mark.parametrize(
    ("mapped", "copied", "kernel", "doubt"),
    [
        (GIB, 0, GIB, None),
        (GIB, GIB, GIB, None),
        (0, GIB, 0, None),
        (GIB, 0, GIB - GIB // 1000, None),
        (GIB, 0, 0, f"receiver: said that it mapped {GIB} bytes, but the kernel mapped 0 (/proc/net/tcp_z"),
        (GIB, 0, GIB - GIB // 500, f"receiver: said that it mapped {GIB} bytes, but the kernel mapped "),
        (GIB, 0, 2 * GIB, f"receiver1: {GIB} more bytes were mapped than its receiver says (/proc/net/tcp_z"),
    ],
)
def test_the_kernels_own_count(mapped: int, copied: int, kernel: int, doubt: str | None) -> None:
    found = counted(mapped, copied, kernel)
    witness = MappedWitness(source="/proc/net/tcp_zerocopy", bytes=kernel, agrees=doubt is None)
    assert mapped_witness.witness(MANIFEST, found) == witness
    doubts = mapped_witness.doubts(MANIFEST, found)
    assert [text.startswith(doubt or "") for text in doubts] == ([True] if doubt else [])


def test_a_copying_receiver_that_maps_is_noticed() -> None:
    assert mapped_witness.doubts(MANIFEST, counted(0, GIB, 0, COPYING)) == []
    (doubt,) = mapped_witness.doubts(MANIFEST, counted(0, GIB, GIB, COPYING))
    assert doubt.startswith(f"receiver1: {GIB} more bytes were mapped than its receiver says")


@pytest.mark.parametrize(
    ("mapped", "copied", "counts", "doubt"),
    [
        (GIB, 0, {512: 0, 4096: 0, 16384: 0, 65536: 0}, False),
        (GIB, 0, {512: 10, 4096: 2, 16384: 0, 65536: 0}, False),
        (0, GIB, {512: 16384, 4096: 16384, 16384: 16384, 65536: 16384}, False),
        (GIB, 0, {512: 16384, 4096: 16384, 16384: 16384, 65536: 16384}, True),
        (GIB, 0, {512: GIB // 4096, 4096: GIB // 4096, 16384: 0, 65536: 0}, True),
        (GIB, 0, {512: GIB // 1000, 4096: 0, 16384: 0, 65536: 0}, True),
        (GIB, GIB // 100, {512: 5000, 4096: 5000, 16384: 1000, 65536: 0}, True),
    ],
)
def test_copies_that_were_not_said(mapped: int, copied: int, counts: dict[int, int], doubt: bool) -> None:
    found = record(mapped, copied, copies={"counts": counts})
    witness = mapped_witness.witness(MANIFEST, found)
    assert witness is not None and witness.source == "skb_copy_datagram_iovec"
    assert witness.agrees is not doubt
    doubts = mapped_witness.doubts(MANIFEST, found)
    assert len(doubts) == doubt
    assert all(f"said that it mapped {mapped} bytes, but the kernel copied" in one for one in doubts)
    document = measurement.document(MANIFEST, found)
    assert document.mapped_witness == witness
    assert any("but the kernel copied" in one for one in document.invalid_reasons) is doubt


def test_the_least_that_copies_had() -> None:
    assert Copies(counts={512: 7, 4096: 5, 16384: 1}).at_least_bytes == 2 * 512 + 4 * 4096 + 16384
    assert Copies(counts={}).at_least_bytes == 0
    assert Copies(unavailable="x").at_least_bytes is None


@pytest.mark.parametrize("why", ["this kernel has no tracepoints", None])
def test_without_a_witness_the_verdict_says_so(why: str | None) -> None:
    """No witness is neither agreement nor doubt."""
    manifest = factories.manifest()
    maps: dict[str, Any] = {
        "receiver.document.total.mapped_bytes": GIB,
        "receiver.document.total.copied_bytes": 0,
    }
    maps["copies"] = {"unavailable": why} if why else None
    made = [
        changed(one, maps) if one.planned.receive_mode == "map_once" else one
        for one in factories.records(manifest)
    ]
    document = verdict.judge(manifest, made)
    found = [one.mapped_witness for one in document.measurements if one.receive_mode == "map_once"]
    reason = why or "copies were not counted"
    assert {*map(type, found)} == {MappedWitness} and all(one and one.agrees is None for one in found)
    console = Console(width=300, record=True, file=io.StringIO())
    report.show(console, document)
    assert f"mapped bytes of {len(found)} without a second witness: {reason}" in console.export_text()


def test_an_older_run_has_no_witness() -> None:
    older: Manifest = MANIFEST.model_copy(update={"recorded_schema": 4})
    assert mapped_witness.doubts(older, record(GIB, 0)) == []


def test_all_ways_to_map_are_added() -> None:
    lines = ["mmap mapped 4096", "mmap copied 5", "zerocopy_receive mapped 8192", "zerocopy_receive linear 1"]
    assert mapped_bytes(lines) == 12288
    assert mapped_bytes([]) is None


def test_what_the_counting_command_prints_is_taken_off() -> None:
    stderr = 'listening 5\ncopies:{"counts": {"4096": 2}}\n'
    assert copies(stderr) == Copies(counts={4096: 2})
    assert rest(stderr) == "listening 5"
    assert copies("listening 5\n") is None
    broken = copies("copies:{")
    assert broken is not None and broken.counts is None and "'{'" in str(broken.unavailable)
