# SPDX-License-Identifier: Apache-2.0
"""The command lines of the traffic tool for a planned measurement."""

from __future__ import annotations

import shlex

from zclab.lab.model import Host, Lab
from zclab.plan.schedule import Measurement

TRAFFIC = "/usr/local/bin/zclab-traffic"
#: Whether mmap() of a TCP socket consumes in a network namespace, on kernels that can do both.
CONSUME = "/proc/sys/net/ipv4/tcp_mmap_consume"
# Back to 0, the default, however the command ends.
_CONSUMING = """
if [ -e {file} ]; then
  trap 'echo 0 >{file}' EXIT
  trap 'exit 1' HUP INT TERM
  echo 1 >{file} || exit
fi
{command}
"""


def receive(lab: Lab, planned: Measurement, host: Host, token: str) -> str:
    """Return the receiver's command line: the server's, if a ping-pong is planned."""
    own, peer = host.endpoints(planned.ip_version or lab.link.ip_version)
    common = ["--bind", own, "--peer", peer, "--token", token, "--mode", planned.receive_mode]
    if planned.rpc is not None:
        return shlex.join(
            [TRAFFIC, "rpc-serve", *common, *_rpc_options(planned), *_shared_options(planned, host)]
        )
    injected = planned.inject_usec_per_mib
    return shlex.join(
        [TRAFFIC, "receive", *common, "--chunk-bytes", str(planned.chunk_bytes)]
        + ["--rcvlowat", str(lab.limits.rcvlowat_bytes)]
        + (["--keep-bytes", str(planned.keep_bytes)] if planned.keep_bytes else [])
        + (["--inject-usec-per-mib", f"{injected:g}"] if injected else [])
        + _framing(planned)
        + _bulk_options(planned)
        + _shared_options(planned, host)
    )


def mapping(planned: Measurement, command: str) -> str:
    """Return a command line that runs a receiver with the mmap() that its mode needs."""
    if planned.receive_mode == "map_each":
        return _CONSUMING.format(file=CONSUME, command=command)
    return command


def send(lab: Lab, planned: Measurement, host: Host, port: int, token: str) -> str:
    """Return the sender's command line: the client's, if a ping-pong is planned."""
    own, peer = host.endpoints(planned.ip_version or lab.link.ip_version)
    common = ["--bind", own, "--peer", peer, "--port", str(port), "--token", token]
    if planned.rpc is not None:
        return shlex.join(
            [TRAFFIC, "rpc-call", *common, "--mode", planned.receive_mode, *_rpc_options(planned)]
            + _shared_options(planned, host)
        )
    pace = planned.pace_gbit_per_s
    return shlex.join(
        [TRAFFIC, "send", *common, "--mode", planned.send_mode, "--message-bytes", str(planned.message_bytes)]
        + ([] if pace is None else ["--pace-gbit", f"{pace:g}"])
        + (["--header-bytes", str(planned.header_bytes)] if planned.header_bytes else [])
        + _bulk_options(planned)
        + _shared_options(planned, host)
    )


def _framing(planned: Measurement) -> list[str]:
    """Return the framing options of a receiver: only map_each needs to know where pages begin."""
    if planned.receive_mode != "map_each" or not planned.header_bytes:
        return []
    return ["--header-bytes", str(planned.header_bytes), "--message-bytes", str(planned.message_bytes)]


def _bulk_options(planned: Measurement) -> list[str]:
    return ["--streams", str(planned.streams), *(["--verify"] if planned.phase == "integrity" else [])]


def _rpc_options(planned: Measurement) -> list[str]:
    assert planned.rpc is not None
    return [
        *("--request-bytes", str(planned.rpc.request_bytes)),
        *("--reply-bytes", str(planned.rpc.reply_bytes)),
    ]


def _shared_options(planned: Measurement, host: Host) -> list[str]:
    window = (
        ["--bytes", str(planned.bytes)]
        if planned.bytes is not None
        else ["--warmup", f"{planned.warmup_seconds:g}", "--seconds", f"{planned.seconds:g}"]
    )
    cpus = ["--cpus", ",".join(map(str, host.traffic_cpus))] if host.traffic_cpus else []
    baseline = ["--baseline", f"{planned.baseline_seconds:g}"] if planned.baseline_seconds else []
    return [*window, *baseline, *cpus, "--watch-stdin"]
