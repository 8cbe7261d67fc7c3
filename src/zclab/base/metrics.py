# SPDX-License-Identifier: Apache-2.0
"""What arms can be compared by: the unit of each metric, where it stands, and when it means something."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from zclab.documents import MeasurementDocument

Metric = Literal[
    "gbit_per_s",
    "receiver_usec_per_mib",
    "sender_usec_per_mib",
    "receiver_host_usec_per_mib",
    "sender_host_usec_per_mib",
    "receiver_cycles_per_mib",
    "sender_cycles_per_mib",
    "receiver_host_cycles_per_mib",
    "sender_host_cycles_per_mib",
    "receiver_instructions_per_mib",
    "sender_instructions_per_mib",
    "rpcs_per_s",
    "rpcs_per_cpu_s",
    "system_calls_per_rpc",
]


class MetricKind(NamedTuple):
    """A metric: its unit, how its value is read, whether it is a cost of CPU, whether a pace leaves it free.

    `everywhere`: every lab can give it. `rpc`: belongs to request/reply measurements, not to bulk ones.
    """

    unit: str
    value: Callable[[MeasurementDocument], float | None]
    cpu: bool = True
    paced: bool = True
    everywhere: bool = True
    rpc: bool = False


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


METRICS: dict[Metric, MetricKind] = {
    "gbit_per_s": MetricKind("gbit_per_s", lambda one: one.gbit_per_s, cpu=False, paced=False),
    "receiver_usec_per_mib": MetricKind("usec_per_mib", _cpu("receiver_cpu", "usec_per_mib")),
    "sender_usec_per_mib": MetricKind("usec_per_mib", _cpu("sender_cpu", "usec_per_mib")),
    "receiver_host_usec_per_mib": MetricKind(
        "usec_per_mib", _cpu("receiver_cpu", "host_usec_per_mib"), everywhere=False
    ),
    "sender_host_usec_per_mib": MetricKind(
        "usec_per_mib", _cpu("sender_cpu", "host_usec_per_mib"), everywhere=False
    ),
    "receiver_cycles_per_mib": MetricKind(
        "cycles_per_mib", _cpu("receiver_cpu", "cycles_per_mib"), everywhere=False
    ),
    "sender_cycles_per_mib": MetricKind(
        "cycles_per_mib", _cpu("sender_cpu", "cycles_per_mib"), everywhere=False
    ),
    "receiver_host_cycles_per_mib": MetricKind(
        "cycles_per_mib", _cpu("receiver_cpu", "host_cycles_per_mib"), everywhere=False
    ),
    "sender_host_cycles_per_mib": MetricKind(
        "cycles_per_mib", _cpu("sender_cpu", "host_cycles_per_mib"), everywhere=False
    ),
    "receiver_instructions_per_mib": MetricKind(
        "instructions_per_mib", _cpu("receiver_cpu", "instructions_per_mib"), everywhere=False
    ),
    "sender_instructions_per_mib": MetricKind(
        "instructions_per_mib", _cpu("sender_cpu", "instructions_per_mib"), everywhere=False
    ),
    "rpcs_per_s": MetricKind("rpcs_per_s", _rpc("rpcs_per_s"), cpu=False, rpc=True),
    "rpcs_per_cpu_s": MetricKind("rpcs_per_cpu_s", _rpc("rpcs_per_cpu_s"), rpc=True),
    "system_calls_per_rpc": MetricKind("system_calls", _rpc("system_calls_per_rpc"), cpu=False, rpc=True),
}
