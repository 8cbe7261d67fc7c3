# SPDX-License-Identifier: Apache-2.0
"""The documents that the two ends of a ping-pong print."""

from __future__ import annotations

from typing import Literal

from zclab.inventory import Model
from zclab.plan import RpcMode
from zclab.traffic import Addresses, HostCpu, Perf, ProcessCpu, Tcp


class RpcWindow(Model):
    complete: bool
    seconds: float | None


class RpcCalls(Model):
    wait: int
    map: int
    receive: int
    send: int


class RpcLatency(Model):
    unit: Literal["ns"]
    significant_bits: int
    counts: list[tuple[int, int]]
    min: int | None
    max: int | None
    total: int


class RpcDocument(Model):
    schema_version: Literal[2]
    end: Literal["rpc_client", "rpc_server"]
    version: str
    outcome: Literal["complete", "cut_short", "stopped", "unsupported", "error", "timeout"]
    error: str | None
    mode: RpcMode
    addresses: Addresses
    request_bytes: int
    reply_bytes: int
    window: RpcWindow
    rpcs: int | None
    system_calls: int | None
    calls: RpcCalls | None
    cpu: ProcessCpu
    host_cpu: HostCpu
    perf: Perf
    mapped_bytes: int | None
    copied_bytes: int | None
    tcp: Tcp
    latency: RpcLatency | None
