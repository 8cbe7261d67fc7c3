# SPDX-License-Identifier: Apache-2.0
"""The documents that the ends of the traffic tool print: of a transfer, and of an RPC session.

What an end did not measure is null.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zclab.base.model import Model, ReceiveMode, SendMode
from zclab.traffic.histogram import Histogram

RpcMode = Literal["recvmsg", "poll_recvmsg", "map_recvmsg", "map_copy_buffer"]


class RpcWindow(Model):
    """The measured window: whether it closed where it should, and its seconds."""

    complete: bool
    seconds: float | None


class Bytes(Model):
    """Payload bytes; mapped and copied ones are the receiver's."""

    bytes: int | None
    mapped_bytes: int | None
    copied_bytes: int | None


class Window(Bytes, RpcWindow):
    """The measured window with its bytes.

    longest_pause_s: the longest time in it between two turns of a stream, in which it looks for data or room
    and moves some; null in documents of an older tool.
    """

    longest_pause_s: float | None = None


class ProcessCpu(Model):
    """The traffic threads over the window: seconds, and context switches (getrusage of each).

    `thread_s` is CLOCK_THREAD_CPUTIME_ID, exact where getrusage lags by up to a tick; null before version 5.
    """

    user_s: float | None
    system_s: float | None
    thread_s: float | None = None
    voluntary_context_switches: int | None
    involuntary_context_switches: int | None


class OneCpu(Model):
    """/proc/stat of one CPU over the window, in seconds."""

    cpu: int
    busy_s: float
    softirq_s: float
    idle_s: float


class Baseline(Model):
    """/proc/stat of the idle host, all CPUs together, over as many seconds just before payload moved."""

    seconds: float | None
    busy_s: float | None
    softirq_s: float | None


class SoftNet(Model):
    """/proc/net/softnet_stat over the window, all CPUs together: processed, dropped, squeezed."""

    processed: int
    dropped: int
    squeezed: int


class HostCpu(Model):
    """The host's CPUs over the window: together, one by one, and their soft interrupts."""

    busy_s: float | None
    softirq_s: float | None
    cpus: int | None
    per_cpu: list[OneCpu] | None
    baseline: Baseline | None
    softirqs: dict[str, int] | None
    softnet: SoftNet | None


class PerfCounts(Model):
    """Hardware events over the window."""

    cycles: int | None
    instructions: int | None


class Perf(Model):
    """Hardware events of the traffic threads and of all CPUs; `unavailable` says why there are none."""

    process: PerfCounts | None
    cpus: PerfCounts | None
    unavailable: str | None


class Unmapped(Model):
    """Bytes of the window that a mapping receiver had to copy, by cause where it can be determined."""

    short_segment: int
    unaligned: int
    compound_page: int
    less_than_page: int
    urgent: int
    refused: int
    unknown: int


class ZerocopyStat(Model):
    """The kernel's counts in the window, of the whole network namespace: bytes mapped, copied, and by cause.

    The causes are those of `Unmapped` where they have the same name; linear: beside the packet's header,
    page_cache: in a page that belongs to a file or a process.
    """

    mapped: int
    copied: int
    linear: int
    short_segment: int
    unaligned: int
    compound_page: int
    page_cache: int
    less_than_page: int
    urgent: int
    refused: int


class Mismatch(Model):
    """The first byte that differs from the sent one: its place, and whether it was mapped."""

    stream: int
    offset: int
    expected: int
    found: int
    mapped: bool


class Integrity(Model):
    """What checking every byte found. `reused_early` is the sender's own count."""

    checked_bytes: int | None = None
    mismatch: Mismatch | None = None
    reused_early: int | None = None


class Completions(Model):
    """Zero-copy sends, how many were completed, and how many of these the kernel copied."""

    sends: int
    completed: int
    copied: int
    no_buffers: int


class Rcvlowat(Model):
    """SO_RCVLOWAT in bytes, as asked for and as read back."""

    asked: int | None
    got: int | None


class Buffers(Model):
    """Socket buffers in bytes, as read back; alignment and huge pages of the receive buffer."""

    rcvbuf: int | None
    sndbuf: int | None
    aligned_bytes: int | None
    huge_page_bytes: int | None


class TcpChange(Model):
    """What tcp_info counted over a span."""

    retransmits: int | None
    segs_in: int | None
    segs_out: int | None
    data_segs_in: int | None
    data_segs_out: int | None
    bytes_sent: int | None
    bytes_retransmitted: int | None
    busy_us: int | None
    receive_window_limited_us: int | None
    send_buffer_limited_us: int | None


class Tcp(Model):
    """tcp_info at the end of the window, and its counters over the window and over the whole connection."""

    snd_mss: int | None
    rcv_mss: int | None
    advmss: int | None
    path_mtu: int | None
    timestamps: bool | None
    sack: bool | None
    rtt_us: int | None
    min_rtt_us: int | None
    snd_cwnd: int | None
    window: TcpChange
    total: TcpChange


class Addresses(Model):
    """Both ends of the connection, null if there was none."""

    local: str | None
    local_port: int | None
    peer: str | None
    peer_port: int | None
    ip_version: Literal[4, 6]


class Stream(Model):
    """One stream: one connection, and one thread on the CPU that it is bound to (null: any)."""

    stream: int
    cpu: int | None
    window: Window
    cpu_time: ProcessCpu
    tcp: Tcp
    rcvlowat: Rcvlowat | None


class AnyDocument(Model):
    """What either document says of its end."""

    schema_version: Literal[4, 5]
    version: str
    outcome: Literal["complete", "cut_short", "stopped", "unsupported", "error", "timeout"]
    error: str | None
    addresses: Addresses
    cpu: ProcessCpu
    host_cpu: HostCpu
    perf: Perf
    system_calls: int | None
    refused_connections: int | None
    tcp: Tcp


class TrafficDocument(AnyDocument):
    """One end of one transfer."""

    end: Literal["receive", "send"]
    mode: ReceiveMode | SendMode
    message_bytes: int | None
    header_bytes: int
    chunk_bytes: int | None
    keep_bytes: int | None
    copy_buffer_bytes: int | None
    pace_gbit: float | None
    inject_usec_per_mib: float | None
    window: Window
    total: Bytes
    completions: Completions | None
    rcvlowat: Rcvlowat | None
    buffers: Buffers
    unmapped: Unmapped | None
    zerocopy_stat: ZerocopyStat | None
    integrity: Integrity | None
    streams: list[Stream]


class RpcTotal(Model):
    """What the whole session moved, RPCs before and after the window included; bytes are received ones."""

    rpcs: int
    mapped_bytes: int
    copied_bytes: int


class RpcCalls(Model):
    """System calls by name; `getsockopt` is TCP_ZEROCOPY_RECEIVE. A blocking recvmsg() waits, too."""

    poll: int
    getsockopt: int
    recvmsg: int
    sendmsg: int


class RpcDocument(AnyDocument):
    """One end of one RPC session. Counts are of the measured window, which holds whole RPCs only."""

    end: Literal["rpc_client", "rpc_server"]
    mode: RpcMode
    request_bytes: int = Field(ge=1)
    reply_bytes: int = Field(ge=1)
    window: RpcWindow
    rpcs: int | None
    mapped_bytes: int | None
    copied_bytes: int | None
    total: RpcTotal
    calls: RpcCalls | None
    latency: Histogram | None
