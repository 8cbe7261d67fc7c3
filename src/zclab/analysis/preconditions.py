# SPDX-License-Identifier: Apache-2.0
"""Whether a run was made under the conditions that its plan asks for: what was read back from the hosts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from zclab.analysis.document import PreconditionDocument
from zclab.host.placement import Placement
from zclab.plan.plan import Preconditions
from zclab.runs.records import Manifest


class _Check(NamedTuple):
    """One condition on one reading: what it is about, what was wanted, and found (null: not readable)."""

    what: str
    wanted: str
    found: str | None
    met: bool | None


def judged(manifest: Manifest) -> list[PreconditionDocument]:
    """Return every condition of a run's plan: met only if each reading says so."""
    found = []
    for host in manifest.pair:
        wanted = manifest.plan.preconditions.get(host.role)
        if wanted is None:
            continue
        readings = [
            [*_checks(wanted, host.data_interface, one)]
            for one in manifest.placements.get(host.name) or [Placement()]
        ]
        for of_condition in zip(*readings, strict=True):
            worst = min(of_condition, key=lambda one: (False, None, True).index(one.met))
            found.append(PreconditionDocument(host=host.name, **worst._asdict()))
    return found


def unmet(conditions: list[PreconditionDocument]) -> str | None:
    """Return which conditions did not hold, or are not known to have, by host; null of none."""
    by_host: dict[str, list[str]] = {}
    for one in conditions:
        if not one.met:
            by_host.setdefault(one.host, []).append(one.what)
    listed = "; ".join(f"{host}: {', '.join(what)}" for host, what in by_host.items())
    return f"not as published: {listed}" if listed else None


def _checks(wanted: Preconditions, interface: str, found: Placement) -> Iterator[_Check]:
    if wanted.traffic_cpus is not None:
        shown = None if found.traffic_cpus is None else _cpus(found.traffic_cpus)
        met = None if found.traffic_cpus is None else found.traffic_cpus == sorted(wanted.traffic_cpus)
        yield _Check("CPUs of the traffic threads", _cpus(wanted.traffic_cpus), shown, met)
    if wanted.interrupt_cpus is not None:
        yield _interrupts(wanted.interrupt_cpus, interface, found.interrupts)
    if wanted.rps is not None:
        yield _steering("RPS", wanted.rps, _rps(found))
    if wanted.rfs is not None:
        yield _steering("RFS", wanted.rfs, _rfs(found))
    for argument in wanted.kernel_arguments:
        words = found.kernel_arguments
        name = argument.partition("=")[0]
        same = [word for word in words or [] if word.partition("=")[0] == name]
        # Of a word that is there twice, the kernel takes the last.
        met = None if words is None else same[-1:] == [argument]
        shown = None if words is None else " ".join(same) or "absent"
        yield _Check(argument, "a kernel argument", shown, met)


def _interrupts(wanted: list[int], interface: str, found: dict[int, list[int]] | None) -> _Check:
    what, cpus = f"CPUs of the interrupts of {interface}", _cpus(wanted)
    if found is None:
        return _Check(what, cpus, None, None)
    shown = dict.fromkeys(_cpus(one) for one in found.values())
    return _Check(what, cpus, " and ".join(shown), all(one == sorted(wanted) for one in found.values()))


def _steering(what: str, wanted: bool, found: bool | None) -> _Check:
    words = {True: "on", False: "off"}
    if found is None:
        return _Check(what, words[wanted], None, None)
    return _Check(what, words[wanted], words[found], found == wanted)


def _rps(found: Placement) -> bool | None:
    return None if found.rps_cpus is None else any(found.rps_cpus.values())


def _rfs(found: Placement) -> bool | None:
    """Return whether packets follow their sockets: that needs both tables, so either alone shows that not."""
    if found.rps_sock_flow_entries == 0:
        return False
    if found.rps_flow_cnt is not None and not any(found.rps_flow_cnt.values()):
        return False
    return None if found.rps_sock_flow_entries is None or found.rps_flow_cnt is None else True


def _cpus(numbers: list[int]) -> str:
    """Return numbers of CPUs as the kernel writes them: 0-3,8."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
