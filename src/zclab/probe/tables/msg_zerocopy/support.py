# SPDX-License-Identifier: Apache-2.0
"""SO_ZEROCOPY and the flag: where they apply."""

from __future__ import annotations

import select
import socket
from pathlib import Path

from ...completions import as_text, await_completions, settle, syn_had_data, take, take_all
from ...netns import enter_new_netns
from ...sockets import (
    MSG_ZEROCOPY,
    PAGE,
    SO_ZEROCOPY,
    error_name,
    listener,
    outcome,
    payload,
    unconnected,
    wait_until,
)
from ...table import Bench, Cases
from ...zerocopy_sends import connected, memory, read, send, udp_pair, whole

CASES = Cases()

MSG_FASTOPEN = 0x20000000
# Bits of tcp_fastopen. Without a cookie: neither the client nor the server wants one.
_CLIENT, _SERVER, _NO_COOKIE = 0x1, 0x2, 0x4 | 0x200


@CASES.add("the flag on a socket without SO_ZEROCOPY", "content whole, completions: none", "Z4")
def flag_without_the_option(bench: Bench) -> str:
    """Programs that always passed this bit see no change."""
    sender, receiver = connected(bench)
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 0)
    sent = payload(2 * PAGE)
    send(sender, memory(bench, sent).view())
    content = whole(read(receiver, len(sent)), sent)
    settle(sender)
    return f"{content}, completions: {take(sender) or 'none'}"


@CASES.add("the flag on a Unix socket", "content whole", "Z4", link="none")
def flag_on_another_protocol(bench: Bench) -> str:
    """A protocol that does not know the flag passes over it."""
    sender, receiver = (bench.keep(end) for end in socket.socketpair())
    sent = payload(PAGE)
    send(sender, memory(bench, sent).view())
    return whole(read(receiver, len(sent)), sent)


@CASES.add("the option on, off and on again, one send each", "0 to 1 copied", "Z4")
def option_off_and_on(bench: Bench) -> str:
    """The option may change while connected, and what was sent without it is not counted."""
    sender, _ = connected(bench)
    area = memory(bench, payload(PAGE))
    for on in (1, 0, 1):
        sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, on)
        send(sender, area.view())
    settle(sender)
    return as_text(await_completions(sender, 2))


@CASES.add("SO_ZEROCOPY set to 1, 2 and -1", "ok, EINVAL, EINVAL, and it is 1", "Z4", link="none")
def option_values(bench: Bench) -> str:
    """The option is 0 or 1."""
    sock = bench.keep(socket.socket(bench.address_family, socket.SOCK_STREAM))
    tries = [
        outcome(lambda value=value: sock.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, value))  # type: ignore[misc]
        for value in (1, 2, -1)
    ]
    return f"{', '.join(tries)}, and it is {sock.getsockopt(socket.SOL_SOCKET, SO_ZEROCOPY)}"


@CASES.add("SO_ZEROCOPY on a listening socket", "an accepted socket has it, 0 to 0 copied", "Z4")
def option_is_inherited(bench: Bench) -> str:
    """Accepted sockets take the option from the one that listens."""
    listening = listener(bench)
    listening.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    bench.keep(socket.create_connection(listening.getsockname()[:2]))
    accepted = bench.keep(listening.accept()[0])
    if not accepted.getsockopt(socket.SOL_SOCKET, SO_ZEROCOPY):
        return "an accepted socket does not have it"
    send(accepted, memory(bench, payload(PAGE)).view())
    return f"an accepted socket has it, {as_text(await_completions(accepted, 1))}"


@CASES.add(
    "SO_ZEROCOPY on Unix, raw, packet and netlink sockets",
    "EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP",
    "Z5",
    link="none",
)
def protocols_without_it(bench: Bench) -> str:
    """Protocols that cannot send without a copy refuse the option with EOPNOTSUPP."""
    kinds = [
        (socket.AF_UNIX, socket.SOCK_STREAM, 0),
        (bench.address_family, socket.SOCK_RAW, socket.IPPROTO_UDP),
        (socket.AF_PACKET, socket.SOCK_RAW, 0),
        (socket.AF_NETLINK, socket.SOCK_RAW, 0),
    ]
    socks = [bench.keep(socket.socket(*kind)) for kind in kinds]
    return ", ".join(
        outcome(lambda sock=sock: sock.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1))  # type: ignore[misc]
        for sock in socks
    )


@CASES.add(
    "SO_ZEROCOPY and a datagram on UDP (kernels since 5.0)",
    "content whole, 0 to 0 copied",
    "Z5",
    document="UDP was left out for now: the option is refused",
)
def udp_has_it(bench: Bench) -> str:
    """UDP has it, too."""
    sender, receiver = udp_pair(bench)
    sent = payload(2 * PAGE)
    send(sender, memory(bench, sent).view())
    return f"{whole(receiver.recv(1 << 16), sent)}, {as_text(await_completions(sender, 1))}"


@CASES.add(
    "MSG_FASTOPEN with the flag, the first bytes go with the SYN",
    {"0": "EINVAL", "5.1": "16384 bytes sent, the SYN had data, content whole, 0 to 0 copied"},
    "Z6",
    document="the send fails",
)
def fast_open(bench: Bench) -> str:
    """A send that connects can be counted, too."""
    listening, sender = _fast_open_ends(bench, _CLIENT | _SERVER | _NO_COOKIE)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
    return _fast_open(bench, listening, sender, 4 * PAGE)


def _fast_open(bench: Bench, listening: socket.socket, sender: socket.socket, length: int) -> str:
    """Send so many bytes by one call that connects, too."""
    sent = payload(length)
    try:
        taken = sender.sendto(
            memory(bench, sent).view(), MSG_ZEROCOPY | MSG_FASTOPEN, listening.getsockname()[:2]
        )
    except OSError as error:
        return error_name(error)
    receiver = bench.keep(listening.accept()[0])
    content = whole(read(receiver, taken), sent)
    completions = as_text(await_completions(sender, 1))
    syn = "the SYN had data" if syn_had_data(sender) else "the SYN had no data"
    return f"{taken} bytes sent, {syn}, {content}, {completions}"


@CASES.add(
    "MSG_FASTOPEN with the flag and no cookie, on a non-blocking socket; then a send when it is connected",
    {
        "0": "EINVAL, then none; then 0 to 0 copied",
        "5.1": "EINPROGRESS, the SYN had no data, then none; then 0 to 0 copied",
    },
    "Z6 Z9",
)
def fast_open_without_a_cookie(bench: Bench) -> str:
    """Without a cookie the SYN takes no data: the send fails and is not counted."""
    listening, sender = _fast_open_ends(bench, _CLIENT | _SERVER)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
    sender.setblocking(False)
    area = memory(bench, payload(PAGE))
    address = listening.getsockname()[:2]
    failed = outcome(lambda: sender.sendto(area.view(), MSG_ZEROCOPY | MSG_FASTOPEN, address))
    if failed == "EINVAL":
        sender.settimeout(None)
        sender.connect(address)
    else:
        wait_until(lambda: bool(select.select([], [sender], [], 0)[1]))
        failed += ", the SYN had data" if syn_had_data(sender) else ", the SYN had no data"
    early = take(sender) or "none"
    bench.keep(listening.accept()[0])
    send(sender, area.view())
    settle(sender)
    return f"{failed}, then {early}; then {take_all(sender)}"


@CASES.add(
    "MSG_FASTOPEN with the flag and no cookie, on a blocking socket",
    {"0": "EINVAL", "5.1": "4096 bytes sent, the SYN had no data, content whole, 0 to 0 copied"},
    "Z6",
    document="the send fails",
)
def fast_open_waits_without_a_cookie(bench: Bench) -> str:
    """A send that waits for the connection is counted once, as any other."""
    listening, sender = _fast_open_ends(bench, _CLIENT | _SERVER)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
    return _fast_open(bench, listening, sender, PAGE)


@CASES.add(
    "MSG_FASTOPEN with the flag where fast open is off, then connect() and a send",
    {"0": "EINVAL, then 0 to 0 copied", "5.1": "EOPNOTSUPP, then 0 to 0 copied"},
    "Z6 Z9",
)
def fast_open_is_off(bench: Bench) -> str:
    """Fast open fails as it does without the flag, and is not counted."""
    listening, sender = _fast_open_ends(bench, 0)
    area = memory(bench, payload(PAGE))
    address = listening.getsockname()[:2]
    refused = outcome(lambda: sender.sendto(area.view(), MSG_ZEROCOPY | MSG_FASTOPEN, address))
    sender.connect(address)
    bench.keep(listening.accept()[0])
    send(sender, area.view())
    return f"{refused}, then {as_text(await_completions(sender, 1))}"


def _fast_open_ends(bench: Bench, setting: int) -> tuple[socket.socket, socket.socket]:
    """Return a listener and an unconnected sender of a network of their own, with this tcp_fastopen."""
    enter_new_netns()
    Path("/proc/sys/net/ipv4/tcp_fastopen").write_text(str(setting), encoding="ascii")
    return listener(bench), unconnected(bench)
