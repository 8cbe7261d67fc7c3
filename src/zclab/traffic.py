# SPDX-License-Identifier: Apache-2.0
"""The documents that the two ends of the traffic tool print. What an end did not measure is null."""

from __future__ import annotations

from typing import Literal

from zclab.inventory import Model, ReceiveMode, SendMode


class Bytes(Model):
    """Payload bytes; mapped and copied ones are the receiver's."""

    bytes: int | None
    mapped_bytes: int | None
    copied_bytes: int | None


class Window(Bytes):
    """The measured window: whether it closed where it should, its seconds, its bytes."""

    complete: bool
    seconds: float | None


class ProcessCpu(Model):
    """getrusage of the process over the window: seconds, and context switches."""

    user_s: float | None
    system_s: float | None
    voluntary_context_switches: int | None
    involuntary_context_switches: int | None


class HostCpu(Model):
    """/proc/stat of the host over the window, all CPUs together, in seconds."""

    busy_s: float | None
    softirq_s: float | None
    cpus: int | None


class Completions(Model):
    """Zero-copy sends, how many were completed, how many of these the kernel copied after all."""

    sends: int
    completed: int
    copied: int
    no_buffers: int


class LowWater(Model):
    """SO_RCVLOWAT in bytes, as asked for and as read back."""

    asked: int | None
    got: int | None


class Buffers(Model):
    """Socket buffers in bytes, as read back."""

    rcvbuf: int | None
    sndbuf: int | None


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


class TrafficDocument(Model):
    """One end of one transfer."""

    schema_version: Literal[1]
    end: Literal["receive", "send"]
    version: str
    outcome: Literal["complete", "cut_short", "stopped", "unsupported", "error", "timeout"]
    error: str | None
    mode: ReceiveMode | SendMode
    addresses: Addresses
    message_bytes: int | None
    chunk_bytes: int | None
    copy_buffer_bytes: int | None
    pace_gbit: float | None
    window: Window
    total: Bytes
    cpu: ProcessCpu
    host_cpu: HostCpu
    system_calls: int | None
    completions: Completions | None
    rcvlowat: LowWater | None
    refused_connections: int | None
    buffers: Buffers
    tcp: Tcp
