# SPDX-License-Identifier: Apache-2.0
"""The command lines of the traffic tool for a planned measurement."""

from __future__ import annotations

import shlex

from zclab.lab.model import Host, Lab
from zclab.plan.schedule import Measurement, Rpc

#: Options by name: null is not given, "" is a flag.
Options = dict[str, str | int | None]
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
    own, peer = host.endpoints(planned.ip_version or lab.expectations.link.ip_version)
    common: Options = {"--bind": own, "--peer": peer, "--token": token, "--mode": planned.receive_mode}
    if planned.rpc is not None:
        return _line("rpc-serve", common | _rpc_options(planned.rpc), planned, host)
    injected = planned.inject_usec_per_mib
    # Only map_each needs to know where pages begin.
    framed = planned.receive_mode == "map_each" and planned.header_bytes > 0
    options: Options = {
        "--chunk-bytes": planned.chunk_bytes,
        "--rcvlowat": lab.limits.rcvlowat_bytes,
        "--keep-bytes": planned.keep_bytes or None,
        "--inject-usec-per-mib": f"{injected:g}" if injected else None,
        "--header-bytes": planned.header_bytes if framed else None,
        "--message-bytes": planned.message_bytes if framed else None,
    }
    return _line("receive", common | options | _bulk_options(planned), planned, host)


def mapping(planned: Measurement, command: str) -> str:
    """Return a command line that runs a receiver with the mmap() that its mode needs."""
    if planned.receive_mode == "map_each":
        return _CONSUMING.format(file=CONSUME, command=command)
    return command


def send(lab: Lab, planned: Measurement, host: Host, port: int | str, token: str) -> str:
    """Return the sender's command line: the client's, if a ping-pong is planned.

    port: that the receiver listens on, or what stands for it.
    """
    own, peer = host.endpoints(planned.ip_version or lab.expectations.link.ip_version)
    common: Options = {"--bind": own, "--peer": peer, "--port": port, "--token": token}
    if planned.rpc is not None:
        common["--mode"] = planned.receive_mode
        return _line("rpc-call", common | _rpc_options(planned.rpc), planned, host)
    pace = planned.pace_gbit_per_s
    options: Options = {
        "--mode": planned.send_mode,
        "--message-bytes": planned.message_bytes,
        "--pace-gbit": None if pace is None else f"{pace:g}",
        "--header-bytes": planned.header_bytes or None,
    }
    return _line("send", common | options | _bulk_options(planned), planned, host)


def _bulk_options(planned: Measurement) -> Options:
    return {"--streams": planned.streams, "--verify": "" if planned.phase == "integrity" else None}


def _rpc_options(rpc: Rpc) -> Options:
    return {"--request-bytes": rpc.request_bytes, "--reply-bytes": rpc.reply_bytes}


def _line(what: str, options: Options, planned: Measurement, host: Host) -> str:
    """Return the command line of an end with its options and those that all ends have."""
    timed = planned.bytes is None
    options = options | {
        "--bytes": planned.bytes,
        "--warmup": f"{planned.warmup_seconds:g}" if timed else None,
        "--seconds": f"{planned.seconds:g}" if timed else None,
        "--baseline": f"{planned.baseline_seconds:g}" if planned.baseline_seconds else None,
        "--cpus": ",".join(map(str, host.traffic_cpus)) if host.traffic_cpus else None,
        "--watch-stdin": "",
    }
    given = [(name, str(value)) for name, value in options.items() if value is not None]
    return shlex.join([TRAFFIC, what, *(word for option in given for word in option if word)])
