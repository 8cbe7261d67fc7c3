# SPDX-License-Identifier: Apache-2.0
"""Where the document of a measurement holds the value of each metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from zclab.analysis.document import MeasurementDocument
from zclab.base.metrics import Metric


def _cpu(
    end: Literal["receiver_cpu", "sender_cpu"], field: str
) -> Callable[[MeasurementDocument], float | None]:
    def value(measurement: MeasurementDocument) -> float | None:
        cpu = getattr(measurement, end)
        found: float | None = getattr(cpu, field) if cpu is not None else None
        return found

    return value


def _rpc(field: str) -> Callable[[MeasurementDocument], float | None]:
    def value(measurement: MeasurementDocument) -> float | None:
        found: float | None = getattr(measurement.rpc, field) if measurement.rpc is not None else None
        return found

    return value


_VALUES: dict[Metric, Callable[[MeasurementDocument], float | None]] = {
    "gbit_per_s": lambda one: one.gbit_per_s,
    "receiver_usec_per_mib": _cpu("receiver_cpu", "usec_per_mib"),
    "sender_usec_per_mib": _cpu("sender_cpu", "usec_per_mib"),
    "receiver_host_usec_per_mib": _cpu("receiver_cpu", "host_usec_per_mib"),
    "sender_host_usec_per_mib": _cpu("sender_cpu", "host_usec_per_mib"),
    "receiver_cycles_per_mib": _cpu("receiver_cpu", "cycles_per_mib"),
    "sender_cycles_per_mib": _cpu("sender_cpu", "cycles_per_mib"),
    "receiver_host_cycles_per_mib": _cpu("receiver_cpu", "host_cycles_per_mib"),
    "sender_host_cycles_per_mib": _cpu("sender_cpu", "host_cycles_per_mib"),
    "receiver_instructions_per_mib": _cpu("receiver_cpu", "instructions_per_mib"),
    "sender_instructions_per_mib": _cpu("sender_cpu", "instructions_per_mib"),
    "rpcs_per_s": _rpc("rpcs_per_s"),
    "rpcs_per_cpu_s": _rpc("rpcs_per_cpu_s"),
    "system_calls_per_rpc": _rpc("system_calls_per_rpc"),
}


def value(measurement: MeasurementDocument, metric: Metric) -> float | None:
    """Return a metric of one measurement, in the unit that METRICS names; null if it was not measured."""
    return _VALUES[metric](measurement)
