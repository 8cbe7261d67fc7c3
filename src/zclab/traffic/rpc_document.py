# SPDX-License-Identifier: Apache-2.0
"""The documents that the two ends of an RPC session print. What an end did not measure is null."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zclab.base.model import Model
from zclab.traffic.document import Addresses, HostCpu, Perf, ProcessCpu, Tcp
from zclab.traffic.histogram import Histogram

RpcMode = Literal["recvmsg", "poll_recvmsg", "map_recvmsg", "map_copy_buffer"]


class RpcWindow(Model):
    """The measured window: whether it closed where it should, and its seconds."""

    complete: bool
    seconds: float | None


class RpcTotal(Model):
    """What the whole session moved, RPCs before and after the window included; bytes are received ones."""

    rpcs: int
    mapped_bytes: int
    copied_bytes: int


class RpcCalls(Model):
    """System calls by what they are for: poll, getsockopt(TCP_ZEROCOPY_RECEIVE), recvmsg, sendmsg.

    A blocking recvmsg, which waits too, is a `receive`.
    """

    wait: int
    map: int
    receive: int
    send: int


class RpcDocument(Model):
    """One end of one RPC session. Counts are of the measured window, which holds whole RPCs only."""

    schema_version: Literal[3]
    end: Literal["rpc_client", "rpc_server"]
    version: str
    outcome: Literal["complete", "cut_short", "stopped", "unsupported", "error", "timeout"]
    error: str | None
    mode: RpcMode
    addresses: Addresses
    request_bytes: int = Field(ge=1)
    reply_bytes: int = Field(ge=1)
    window: RpcWindow
    rpcs: int | None
    mapped_bytes: int | None
    copied_bytes: int | None
    total: RpcTotal
    system_calls: int | None
    calls: RpcCalls | None
    cpu: ProcessCpu
    host_cpu: HostCpu
    perf: Perf
    tcp: Tcp
    refused_connections: int | None
    latency: Histogram | None
