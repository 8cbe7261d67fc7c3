# SPDX-License-Identifier: Apache-2.0
"""What arms can be compared by: the unit of each metric, and when it means something."""

from __future__ import annotations

from typing import Literal, NamedTuple

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
    "guest_instructions_per_mib",
    "guest_other_instructions_per_mib",
    "receiver_system_calls_per_mib",
    "receiver_context_switches_per_mib",
    "rpcs_per_s",
    "rpcs_per_cpu_s",
    "system_calls_per_rpc",
    "guest_instructions_per_rpc",
]


class MetricKind(NamedTuple):
    """A metric: its unit, whether it is a cost of CPU, whether it means something at a fixed pace.

    `everywhere`: every lab can give it. `rpc`: belongs to request/reply measurements, not to bulk ones.
    `shown_only`: it is shown beside others, and neither judged nor waited for: a count that may be 0, or a
    thread's instructions by its clock, which books them on the wrong thread.
    """

    unit: str
    cpu: bool = True
    paced: bool = True
    everywhere: bool = True
    rpc: bool = False
    shown_only: bool = False


METRICS: dict[Metric, MetricKind] = {
    "gbit_per_s": MetricKind("gbit_per_s", cpu=False, paced=False),
    "receiver_usec_per_mib": MetricKind("usec_per_mib"),
    "sender_usec_per_mib": MetricKind("usec_per_mib"),
    "receiver_host_usec_per_mib": MetricKind("usec_per_mib", everywhere=False),
    "sender_host_usec_per_mib": MetricKind("usec_per_mib", everywhere=False),
    "receiver_cycles_per_mib": MetricKind("cycles_per_mib", everywhere=False),
    "sender_cycles_per_mib": MetricKind("cycles_per_mib", everywhere=False),
    "receiver_host_cycles_per_mib": MetricKind("cycles_per_mib", everywhere=False),
    "sender_host_cycles_per_mib": MetricKind("cycles_per_mib", everywhere=False),
    "receiver_instructions_per_mib": MetricKind("instructions_per_mib", everywhere=False, shown_only=True),
    "sender_instructions_per_mib": MetricKind("instructions_per_mib", everywhere=False, shown_only=True),
    "guest_instructions_per_mib": MetricKind("instructions_per_mib", paced=False, everywhere=False),
    "guest_other_instructions_per_mib": MetricKind(
        "instructions_per_mib", paced=False, everywhere=False, shown_only=True
    ),
    "receiver_system_calls_per_mib": MetricKind("system_calls_per_mib", cpu=False, shown_only=True),
    "receiver_context_switches_per_mib": MetricKind("context_switches_per_mib", cpu=False, shown_only=True),
    "rpcs_per_s": MetricKind("rpcs_per_s", cpu=False, rpc=True),
    "rpcs_per_cpu_s": MetricKind("rpcs_per_cpu_s", rpc=True),
    "system_calls_per_rpc": MetricKind("system_calls", cpu=False, rpc=True),
    "guest_instructions_per_rpc": MetricKind("instructions", everywhere=False, rpc=True),
}
