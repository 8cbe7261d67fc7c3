# SPDX-License-Identifier: Apache-2.0
"""The document that `zclab show --json` prints: a run, judged. What was not measured is null."""

from __future__ import annotations

from typing import Any, Literal

from zclab.analysis.statistics import Effect, IntervalKind
from zclab.backends.exact.emulator import EmulatorFacts
from zclab.base.exit_codes import Verdict
from zclab.base.metrics import Metric
from zclab.base.model import Model
from zclab.host.snapshot import HostFacts
from zclab.plan.schedule import Rpc, Setting
from zclab.runs.manifest import BaseManifest
from zclab.runs.records import GuestBoot, Repetition
from zclab.traffic.document import OneCpu, Rcvlowat, SoftNet, Unmapped, ZerocopyStat
from zclab.traffic.profile import Profile


class StreamCpu(Model):
    """CPU of one stream's thread inside the window, in seconds; `cpu` is where it was placed."""

    stream: int
    cpu: int | None
    user_s: float | None
    system_s: float | None
    thread_s: float | None = None


class Cpu(Model):
    """CPU of one end inside the window: seconds, microseconds and cycles per MiB (2^20 bytes) received.

    `user_s` and `system_s` are the traffic threads' own (getrusage), `thread_s` their sum by the clock of
    each thread; `usec_per_mib` is made of it, or where an older tool has none, of the two. `host_busy_s` is
    the whole host's (/proc/stat) less an idle baseline of the same length, `softirq_s` its softirq time.
    What is the host's is null where hosts share their CPUs. `context_switches_per_mib` are the traffic
    threads' own, voluntary and not; published are those of a run of 32768 MiB (claims F1 to F3), so that a
    published figure divided by 32768 compares.
    """

    user_s: float | None
    system_s: float | None
    thread_s: float | None = None
    usec_per_mib: float | None
    softirq_s: float | None
    softirq_usec_per_mib: float | None
    host_busy_s: float | None
    host_usec_per_mib: float | None
    cycles_per_mib: float | None
    instructions_per_mib: float | None
    host_cycles_per_mib: float | None
    host_instructions_per_mib: float | None
    context_switches_per_mib: float | None = None
    system_calls_per_mib: float | None = None
    perf_unavailable: str | None
    per_cpu: list[OneCpu] | None
    softirqs: dict[str, int] | None
    softnet: SoftNet | None
    streams: list[StreamCpu]


class Transport(Model):
    """What tcp_info said of one end when the window closed: MSS in bytes, cwnd in segments."""

    mss: int | None
    rtt_us: int | None
    cwnd: int | None
    retransmitted_segments: int | None


class SystemCalls(Model):
    """System calls for each RPC at one end, by name; `getsockopt` is TCP_ZEROCOPY_RECEIVE."""

    poll: float
    getsockopt: float
    recvmsg: float
    sendmsg: float


class Latency(Model):
    """Round trips in microseconds; `histogram` is an HdrHistogram of nanoseconds, mergeable."""

    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    p99_9: float | None
    p99_99: float | None
    max: float | None
    histogram: str


class RpcFigures(Rpc):
    """What a ping-pong gave; `system_calls_per_rpc` are the client's that move data, waits apart.

    guest_instructions_per_rpc: all that one guest executed in the server's window, for each of its RPCs; null
    where no clock counts instructions.
    """

    rpcs: int | None
    rpcs_per_s: float | None
    rpcs_per_cpu_s: float | None
    system_calls_per_rpc: float | None
    guest_instructions_per_rpc: float | None = None
    client_calls: SystemCalls | None
    server_calls: SystemCalls | None
    latency_us: Latency | None


class Completions(Model):
    """Zero-copy sends of a measurement, their completions, and how many said that the kernel copied."""

    sends: int
    completed: int
    copied: int


class MappedWitness(Model):
    """What the receiver's kernel says of the bytes that the traffic tool says it mapped, over the connection.

    source: "/proc/net/tcp_zerocopy", the kernel's own count of mapped bytes; "skb_copy_datagram_iovec", its
    copies to the receiver, which leave at most so many `bytes` that can have been mapped; null: neither is
    there, for the reason in `unavailable`. agrees: whether the tool's count does, within the tolerance.
    """

    source: Literal["/proc/net/tcp_zerocopy", "skb_copy_datagram_iovec"] | None
    bytes: int | None
    agrees: bool | None
    unavailable: str | None = None


class MeasurementDocument(Setting):
    """One measurement, judged. A field that was not measured is null.

    `nic_counters` holds, for each host, the counters of the data interface that changed, and by how much.
    `invalid_lasts`: a reason is the hosts' state, so that the measurement is not made again. `boots` are the
    boot ids of the hosts, where the plan booted them. `guest_instructions_per_mib` is all that one guest with
    both ends executed in the receiver's window; `guest_other_instructions_per_mib` is that without what the
    clocks of the two traffic threads counted: interrupts, soft interrupts, other threads. Both are null in
    other labs, and at a fixed pace. `guest` is the boot of that guest.
    """

    ip_version: Literal[4, 6]
    seconds: float | None
    bytes_received: int | None
    gbit_per_s: float | None
    mapped_bytes: int | None
    copied_bytes: int | None
    mapped_fraction: float | None
    mapped_witness: MappedWitness | None = None
    unmapped: Unmapped | None
    zerocopy_stat: ZerocopyStat | None
    rcvlowat_bytes: Rcvlowat | None
    receiver_cpu: Cpu | None
    sender_cpu: Cpu | None
    receiver_context_switches: int | None
    retransmitted_segments: int | None
    retransmitted_share: float | None
    mss: int | None
    receiver_transport: Transport | None
    sender_transport: Transport | None
    completions: Completions | None
    integrity: Literal["verified", "mismatch", "not checked"]
    system_calls: int | None
    header_split: int | None
    drops: int | None
    nic_counters: dict[str, dict[str, int]]
    controller_cpu_share: float | None
    rpc: RpcFigures | None
    profiles: dict[str, Profile]
    skipped: str | None
    valid: bool
    invalid_reasons: list[str]
    invalid_lasts: bool = False
    boots: dict[str, str] = {}
    guest_instructions_per_mib: float | None = None
    guest_other_instructions_per_mib: float | None = None
    guest: GuestBoot | None = None


class OtherFigure(Model):
    """The same comparison by another metric: the ratio of B to A and its interval."""

    metric: Metric
    ratio: float | None
    ratio_ci95: tuple[float | None, float | None]


class EqualArms(Model):
    """How equal arms differed by one metric, over all pairs of them in the run.

    differ: they surely did, by more than the smallest effect, so that nothing is judged. Null, with the
    reason in `because`, if that cannot be said.
    """

    metric: Metric
    n: int
    ratio: float | None
    ratio_ci95: tuple[float | None, float | None]
    p_value: float | None
    differ: bool | None
    because: str | None


class ComparisonDocument(Model):
    """Two arms compared by one metric, or one arm's median compared with a threshold (arm_a is null then).

    `ratio_median` is the Hodges-Lehmann estimate of the ratio, and `ratio_ci95` its interval: `interval`
    names it, `coverage` is how often it holds the true value. `n` counts pairs, or boots of each kernel where
    `n_boots` is not null. `effect` is what may be called of the ratio (zclab.analysis.statistics.effect),
    null with the reason in `effect_because`; `resolution` is how far chance takes the estimate. `stopped`
    says what ended the measuring: a narrow interval, or the limit. `precision` is half of the interval as a
    share of the ratio, `precision_wanted` what the plan asks for. `host_cpu` is the comparison by the CPU of
    the whole host, null where it was not measured or hosts share their CPUs; `contradiction` says that it
    surely differs in the opposite direction.
    """

    name: str
    metric: Metric
    arm_a: str | None
    arm_b: str
    n: int
    median_a: float | None
    median_b: float | None
    ratio_median: float | None
    ratio_ci95: tuple[float | None, float | None]
    threshold: float | None
    unit: str
    direction: Literal["at_least", "at_most"] | None
    gated: bool
    not_gated_because: str | None
    verdict: Verdict | None
    invalid_reasons: list[str] = []
    inconclusive_because: str | None = None
    interval: IntervalKind | None = None
    coverage: float | None = None
    n_boots: int | None = None
    precision: float | None = None
    precision_wanted: float | None = None
    host_cpu: OtherFigure | None = None
    contradiction: str | None = None
    p_value: float | None
    smallest_effect: float
    resolution: float | None
    effect: Effect | None
    effect_because: str | None
    stopped: Literal["narrow", "limit"] | None
    claim_ids: list[str]
    reference: dict[str, Any]


class PreconditionDocument(Model):
    """One condition of a plan on one host: what it is about, what was wanted, and the worst that was found.

    found: null if it cannot be read. met: null if it is not known.
    """

    host: str
    what: str
    wanted: str
    found: str | None
    met: bool | None


class BaselineDocument(Model):
    """The whole guest's count of one cell beside the pinned one, in instructions per MiB (medians).

    n: valid counts. ratio: the median of counts over the pinned ones of their places in the boot, null with
    the reason in `because`. at_most: the ratio above which it fails.
    """

    cell: str
    n: int
    instructions_per_mib: float | None
    baseline: float | None
    ratio: float | None
    at_most: float
    verdict: Verdict
    because: str | None


class RunDocument(BaseManifest):
    """What `zclab show --json` prints of a run of kind run.

    preconditions: of the plan, each with what was read back. left_out: comparisons of the lab's plan that
    were not made, and why. emulator, repetition: as in the manifest. baseline: each cell beside the count
    that the lab pins; empty where it pins none of this plan.
    """

    kind: Literal["run"] = "run"
    exit_code: int
    verdict: Verdict
    hosts: list[HostFacts]
    measurements: list[MeasurementDocument]
    comparisons: list[ComparisonDocument]
    equal_arms: list[EqualArms] = []
    remeasured: int = 0
    seed: int | None
    preconditions: list[PreconditionDocument] = []
    left_out: dict[str, str] = {}
    emulator: EmulatorFacts | None = None
    repetition: Repetition | None = None
    baseline: list[BaselineDocument] = []
    problems: list[str]
