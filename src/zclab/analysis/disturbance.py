# SPDX-License-Identifier: Apache-2.0
"""Whether something disturbed one arm of a comparison only: pure functions of a manifest and its records.

What no mode changes is compared between the arms, by medians, so that neither one odd measurement nor a
machine that is busy throughout makes a difference. What a mode changes (system calls, acknowledgements) is
compared with the other measurements of the same arm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple

from zclab.analysis import statistics
from zclab.analysis.ends import bulk, growth, states
from zclab.base.groups import grouped
from zclab.lab.model import Disturbance
from zclab.plan.schedule import ArmName
from zclab.runs.records import Manifest, Record
from zclab.traffic.document import TrafficDocument

#: Measurements of an arm that it takes to tell which is odd among them, and to have a median that one odd
#: measurement does not move. Gates need more pairs than that anyway.
_FEWEST, _FEWEST_OF_ARM = 5, 3
_MIB = 2**20
#: Share of their CPUs that the tools have to leave over for that of others to mean something.
_LEAST_LEFT = 0.1


class _End(NamedTuple):
    """One end of a bulk transfer, with all that a quantity is made of."""

    manifest: Manifest
    record: Record
    host: str
    document: TrafficDocument
    other: TrafficDocument


class _Quantity(NamedTuple):
    """What could disturb: its name in reasons, the field of the declared bound, whether that is a factor."""

    name: str
    bound: str
    factor: bool
    of: Callable[[_End], float | None]


def reasons(manifest: Manifest, records: list[Record]) -> dict[str, list[str]]:
    """Return what disturbed one arm only, by the name of the comparison.

    A quantity that was not recorded, or that the lab declares no bound of, is not judged.
    """
    of_cells = grouped(
        [one for one in records if one.planned.phase in ("compare", "aa")], lambda one: one.planned.comparison
    )
    found = {name: [*_of_cell(manifest, members)] for name, members in of_cells.items()}
    return {name: said for name, said in found.items() if said}


def _of_cell(manifest: Manifest, members: list[Record]) -> Iterator[str]:
    bounds = manifest.expectations.validity.disturbance
    for index, host in enumerate(manifest.pair):
        arms: dict[ArmName, list[_End]] = {"a": [], "b": []}
        for record in members:
            ends = bulk(record.sender), bulk(record.receiver)
            if ends[0] is not None and ends[1] is not None and record.problem is None:
                end, other = (ends[0], ends[1]) if index == 0 else (ends[1], ends[0])
                arms[record.planned.arm].append(_End(manifest, record, host.name, end, other))
        for quantity in _BETWEEN_ARMS:
            yield from _between(quantity, bounds, host.name, arms)
        for quantity in _WITHIN_ARM:
            for arm, ends_of_arm in arms.items():
                yield from _within(quantity, bounds, host.name, arm, ends_of_arm)


def _between(
    quantity: _Quantity, bounds: Disturbance, host: str, arms: dict[ArmName, list[_End]]
) -> Iterator[str]:
    bound: float | None = getattr(bounds, quantity.bound)
    values = {
        arm: [value for end in ends if (value := quantity.of(end)) is not None] for arm, ends in arms.items()
    }
    if bound is None or min(map(len, values.values())) < _FEWEST_OF_ARM:
        return
    a, b = (median(values[arm]) for arm in ("a", "b"))
    low, high = min(a, b), max(a, b)
    apart = high > low * bound if quantity.factor else high - low > bound
    if apart and not _by_chance(values["a"], values["b"]):
        more = "A" if a > b else "B"
        yield (
            f"{host}: {quantity.name} differs between the arms: A {a:.3g}, B {b:.3g}: "
            f"something disturbed arm {more} (disturbance.{quantity.bound} {bound:g})"
        )


def _by_chance(a: list[float], b: list[float]) -> bool:
    """Say whether arms that are alike may be as far apart: what comes and goes in both moves a median, too.

    So few as have no interval are not given that benefit.
    """
    enough = min(len(a), len(b)) >= statistics.FEWEST_PAIRS
    return enough and statistics.rank_p_value(a, b) > statistics.FALSE_ALARM


def _within(
    quantity: _Quantity, bounds: Disturbance, host: str, arm: ArmName, ends: list[_End]
) -> Iterator[str]:
    bound: float | None = getattr(bounds, quantity.bound)
    values = {
        end.record.planned.id: value for end in ends if (value := quantity.of(end)) is not None and value > 0
    }
    if bound is None or len(values) < _FEWEST:
        return
    middle = median(values.values())
    odd = {name: value for name, value in values.items() if not middle / bound <= value <= middle * bound}
    for name, value in [*odd.items()][:1]:
        others = f", and of {len(odd) - 1} others" if len(odd) > 1 else ""
        yield (
            f"{host}: {quantity.name} of {name} is {value:.3g}, the median of arm {arm.upper()} is "
            f"{middle:.3g}{others}: something disturbed it (disturbance.{quantity.bound} {bound:g})"
        )


# ----------------------------------------------------------------------------------------------- quantities


def _window(end: _End) -> float | None:
    """Return the length of the window as a share of the plan's; null where that is in bytes."""
    planned, seconds = end.record.planned, end.document.window.seconds
    return seconds / planned.seconds if seconds and planned.bytes is None else None


def _pause(end: _End) -> float | None:
    return end.document.window.longest_pause_s


def _foreign_cpu(end: _End) -> float | None:
    """Return the CPU time of others on the CPUs of an end's threads, as a share of what these left over.

    So a busy machine looks alike in both arms, though a mode that needs less leaves more to others. Softirq
    time is the flow's own. Where hosts share their CPUs, what the other end's threads used on these is, too.
    Null where next to nothing was left.
    """
    seconds, per_cpu = end.document.window.seconds, end.document.host_cpu.per_cpu
    cpus = {stream.cpu for stream in end.document.streams}
    if not seconds or per_cpu is None or None in cpus:
        return None
    ends = [end.document, *([end.other] if end.manifest.expectations.shared_cpu else [])]
    times = [
        time
        for document in ends
        for stream in document.streams
        if stream.cpu in cpus
        for time in (stream.cpu_time.user_s, stream.cpu_time.system_s)
    ]
    if None in times:
        return None
    own = sum(time for time in times if time is not None)
    here = [one for one in per_cpu if one.cpu in cpus]
    left = seconds * len(cpus) - own - sum(one.softirq_s for one in here)
    foreign = sum(one.busy_s - one.softirq_s for one in here) - own
    return min(1.0, max(0.0, foreign) / left) if left > _LEAST_LEFT * seconds * len(cpus) else None


def _stolen_cpu(end: _End) -> float | None:
    """Return the time that a hypervisor gave to others, as a share of all CPUs from before to after."""
    found = states(end.record, end.host)
    before, after = (state.cpus for state in found) if found else (None, None)
    if before is None or after is None:
        return None
    both = [(before[cpu], after[cpu]) for cpu in before if cpu in after]
    stolen = sum(new.steal - old.steal for old, new in both)
    total = sum(new.busy + new.steal + new.idle - old.busy - old.steal - old.idle for old, new in both)
    return stolen / total if total > 0 else None


def _window_limited(end: _End) -> float | None:
    """Return for how much of its window a sender waited for its receiver's window (tcp_info)."""
    limited, seconds = end.document.tcp.window.receive_window_limited_us, end.document.window.seconds
    sends = end.document.end == "send"
    return limited / 1e6 / seconds if sends and limited is not None and seconds else None


def _rtt(end: _End) -> float | None:
    return float(end.document.tcp.rtt_us) if end.document.end == "send" and end.document.tcp.rtt_us else None


def _retransmitted(end: _End) -> float | None:
    total = end.document.tcp.total
    if end.document.end != "send" or total.retransmits is None or not total.data_segs_out:
        return None
    return total.retransmits / total.data_segs_out


def _segment_bytes(end: _End) -> float | None:
    total = end.document.tcp.total
    payload, segments = end.document.total.bytes, total.data_segs_out
    return payload / segments if end.document.end == "send" and payload and segments else None


def _softnet(end: _End) -> float | None:
    """Return packets dropped and polls squeezed, as a share of the packets that the host processed."""
    found = end.document.host_cpu.softnet
    return (found.dropped + found.squeezed) / found.processed if found and found.processed else None


def _foreign_packets(end: _End) -> float | None:
    """Return packets that came in beside the flow's segments, per second; a large packet counts once."""
    grown, segments, seconds = growth(end.record, end.host), end.document.tcp.total.segs_in, _seconds(end)
    if grown is None or "rx_packets" not in grown or segments is None or not seconds:
        return None
    return max(0, grown["rx_packets"] - segments) / seconds


def _seconds(end: _End) -> float:
    planned = end.record.planned
    if planned.bytes is not None:
        return end.document.window.seconds or 0.0
    return planned.seconds + planned.warmup_seconds


def _calls(end: _End) -> float | None:
    calls, moved = end.document.system_calls, end.document.window.bytes
    return calls / (moved / _MIB) if calls is not None and moved else None


def _acknowledgements(end: _End) -> float | None:
    segments, moved = end.document.tcp.total.segs_in, end.document.total.bytes
    return (
        segments / (moved / _MIB) if end.document.end == "send" and segments is not None and moved else None
    )


_BETWEEN_ARMS = (
    _Quantity("the length of its window", "window_share", False, _window),
    _Quantity("the longest pause of an end (s)", "pause_s", False, _pause),
    _Quantity("foreign CPU time", "foreign_cpu_share", False, _foreign_cpu),
    _Quantity("stolen CPU time", "stolen_cpu_share", False, _stolen_cpu),
    _Quantity(
        "time without room in the receiver's window", "receive_window_limited_share", False, _window_limited
    ),
    _Quantity("round-trip time (µs)", "rtt_factor", True, _rtt),
    _Quantity("retransmitted segments", "retransmitted_share", False, _retransmitted),
    _Quantity("bytes per segment", "segment_bytes_factor", True, _segment_bytes),
    _Quantity("packets dropped or polls squeezed", "softnet_share", False, _softnet),
    _Quantity("packets of others per second", "foreign_packets_per_s", False, _foreign_packets),
)
_WITHIN_ARM = (
    _Quantity("system calls per MiB", "within_arm_factor", True, _calls),
    _Quantity("acknowledgements per MiB", "within_arm_factor", True, _acknowledgements),
)
