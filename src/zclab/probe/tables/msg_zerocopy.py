# SPDX-License-Identifier: Apache-2.0
"""MSG_ZEROCOPY: sends that take the program's pages, and completions that say when they are free again.

On loopback, and on every link without a device, what was sent is copied before it is received, and
completions say so.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..completions import (
    Completion,
    await_completions,
    optmem,
    said,
    segments,
    settle,
    syn_had_data,
    take,
    unsent,
)
from ..netns import RX_CHECKSUM, SCATTER_GATHER, TX_CHECKSUM, linked, offload, own_network, run
from ..processes import SECONDS
from ..sockets import (
    MSG_ZEROCOPY,
    PAGE,
    SO_ZEROCOPY,
    Mapping,
    error_name,
    listener,
    map_memory,
    outcome,
    payload,
    unconnected,
)
from ..table import Bench, NotHereError, Table
from ..zerocopy_sends import (
    FRONT,
    SO_SNDBUFFORCE,
    across,
    as_user,
    connected,
    memory,
    read,
    read_to_end,
    reading,
    send,
    sink_says,
    stall,
    stalled,
    take_away,
    to_sink,
    udp_pair,
    whole,
)

MSG_FASTOPEN = 0x20000000
OPTMEM_MAX = Path("/proc/sys/net/core/optmem_max")
# No notification takes more option memory.
NOTIFICATION = 1024
# Any user that nobody else is: what is locked is counted by user.
USER = 1_000_000_000
LENGTHS = (1, 100, PAGE, 3 * PAGE, 1 << 16, 1 << 23)


@contextlib.contextmanager
def optmem_max_kept() -> Iterator[None]:
    """Put net.core.optmem_max back at the end: before 6.8 a row can only set it for the whole host."""
    before = OPTMEM_MAX.read_text(encoding="ascii")
    try:
        yield
    finally:
        if OPTMEM_MAX.read_text(encoding="ascii") != before:
            OPTMEM_MAX.write_text(before, encoding="ascii")


TABLE = Table("msg_zerocopy", optmem_max_kept)


# Completions


@TABLE.add("three sends, each awaited", "0 to 0 copied; 1 to 1 copied; 2 to 2 copied", "Z1")
def each_send_is_told(bench: Bench) -> str:
    """Sends are counted from 0, and each has its completion."""
    sender, _ = connected(bench)
    area = memory(bench, payload(PAGE))
    told = []
    for _ in range(3):
        send(sender, area.view())
        told += await_completions(sender, 1)
    return "; ".join(map(str, told))


@TABLE.add("three sends complete before the first completion is read", "0 to 2 copied; then none", "Z1", "Z2")
def adjacent_completions_merge(bench: Bench) -> str:
    """What is not read yet is one range."""
    sender, _ = connected(bench)
    area = memory(bench, payload(PAGE))
    for _ in range(3):
        send(sender, area.view())
    settle(sender)
    return f"{take(sender)}; then {take(sender) or 'none'}"


@TABLE.add("sixteen sends of 64 KiB wait in the send queue", "2 notifications, 0 to 15 copied", "Z2")
def merging_is_bounded(bench: Bench) -> str:
    """Sends that wait share a notification, for no more than 512 KiB, so that none waits for ever."""
    sender, receiver = stalled(bench)
    area = memory(bench, payload(1 << 16))
    send(sender, area.view())
    one = optmem(sender)
    for _ in range(15):
        send(sender, area.view())
    notifications = optmem(sender) / one
    take_away(receiver, len(FRONT) + 16 * (1 << 16))
    return f"{notifications:g} notifications, {said(await_completions(sender, 16))}"


@TABLE.add("2^32 sends on one socket", "the range goes on at 0", "Z1")
def counter_wraps(bench: Bench) -> str:
    """The counter has 32 bits."""
    raise NotHereError("no kernel lets a program set the counter, and 2^32 sends take hours")


@TABLE.add(
    "a completion is waiting",
    "POLLERR, SO_ERROR 0, reads are not disturbed; 0 to 0 copied, then no POLLERR",
    "Z1",
)
def a_completion_is_no_error(bench: Bench) -> str:
    """A waiting completion wakes poll(), and fails no other call."""
    sender, receiver = connected(bench)
    poll = select.poll()
    poll.register(sender, 0)
    send(sender, memory(bench, payload(PAGE)).view())
    settle(sender)
    polled = "POLLERR" if poll.poll(0) == [(sender.fileno(), select.POLLERR)] else "no POLLERR"
    receiver.sendall(b"answer")
    error = sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    answer = sender.recv(6, socket.MSG_WAITALL)
    disturbed = "reads are not disturbed" if answer == b"answer" else "reads are disturbed"
    told = said(await_completions(sender, 1))
    after = "POLLERR" if poll.poll(0) else "no POLLERR"
    return f"{polled}, SO_ERROR {error}, {disturbed}; {told}, then {after}"


@TABLE.add(
    "a send to a receiver on the same host that does not read, and then a change of the buffer",
    "0 to 0 copied, content whole",
    "Z3",
    "Z7",
)
def what_loops_back_is_copied(bench: Bench) -> str:
    """Completion does not wait for a local reader: it has a copy."""
    sender, receiver = connected(bench)
    sent = payload(4 * PAGE)
    area = memory(bench, sent)
    send(sender, area.view())
    told = await_completions(sender, 1)
    area.view()[:] = bytes(len(sent))
    return f"{said(told)}, {whole(read(receiver, len(sent)), sent)}"


@TABLE.add("sends to the other host", "0 to 3, content whole", "Z1", "Z3")
def not_copied_on_the_link(bench: Bench) -> str:
    """A device takes the program's own pages."""
    sender = to_sink(bench)
    sent = payload(1 << 18)
    area = memory(bench, sent)
    for at in range(0, len(sent), 1 << 16):
        send(sender, area.view(at, 1 << 16))
    told = await_completions(sender, 4)
    return f"{said(told)}, {sink_says(sender, sent)}"


# Where it applies


@TABLE.add("the flag on a socket without SO_ZEROCOPY", "content whole, completions: none", "Z4")
def flag_without_the_option(bench: Bench) -> str:
    """Programs that always passed this bit see no change."""
    sender, receiver = connected(bench)
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 0)
    sent = payload(2 * PAGE)
    send(sender, memory(bench, sent).view())
    content = whole(read(receiver, len(sent)), sent)
    settle(sender)
    return f"{content}, completions: {take(sender) or 'none'}"


@TABLE.add("the flag on a Unix socket", "content whole", "Z4")
def flag_on_another_protocol(bench: Bench) -> str:
    """A protocol that does not know the flag passes over it."""
    sender, receiver = (bench.keep(end) for end in socket.socketpair())
    sent = payload(PAGE)
    send(sender, memory(bench, sent).view())
    return whole(read(receiver, len(sent)), sent)


@TABLE.add("the option on, off and on again, one send each", "0 to 1 copied", "Z4")
def option_off_and_on(bench: Bench) -> str:
    """The option may change while connected, and what was sent without it is not counted."""
    sender, _ = connected(bench)
    area = memory(bench, payload(PAGE))
    for on in (1, 0, 1):
        sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, on)
        send(sender, area.view())
    settle(sender)
    return said(await_completions(sender, 2))


@TABLE.add("SO_ZEROCOPY set to 1, 2 and -1", "ok, EINVAL, EINVAL, and it is 1", "Z4")
def option_values(bench: Bench) -> str:
    """The option is 0 or 1."""
    sock = bench.keep(socket.socket(bench.address_family, socket.SOCK_STREAM))
    tries = [
        outcome(lambda value=value: sock.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, value))  # type: ignore[misc]
        for value in (1, 2, -1)
    ]
    return f"{', '.join(tries)}, and it is {sock.getsockopt(socket.SOL_SOCKET, SO_ZEROCOPY)}"


@TABLE.add("SO_ZEROCOPY on a listening socket", "an accepted socket has it, 0 to 0 copied", "Z4")
def option_is_inherited(bench: Bench) -> str:
    """Accepted sockets take the option from the one that listens."""
    listening = listener(bench)
    listening.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    bench.keep(socket.create_connection(listening.getsockname()[:2]))
    accepted = bench.keep(listening.accept()[0])
    if not accepted.getsockopt(socket.SOL_SOCKET, SO_ZEROCOPY):
        return "an accepted socket does not have it"
    send(accepted, memory(bench, payload(PAGE)).view())
    return f"an accepted socket has it, {said(await_completions(accepted, 1))}"


@TABLE.add(
    "SO_ZEROCOPY on Unix, raw, packet and netlink sockets",
    "EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP",
    "Z5",
)
def protocols_without_it(bench: Bench) -> str:
    """What can not send without a copy refuses the option, with an error that programs know."""
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


@TABLE.add(
    "SO_ZEROCOPY and a datagram on UDP (kernels since 5.0)",
    "content whole, 0 to 0 copied",
    "Z5",
    document="UDP was left out for now: the option is refused",
)
def udp_has_it(bench: Bench) -> str:
    """UDP has it too, by now."""
    sender, receiver = udp_pair(bench)
    sent = payload(2 * PAGE)
    send(sender, memory(bench, sent).view())
    return f"{whole(receiver.recv(1 << 16), sent)}, {said(await_completions(sender, 1))}"


@TABLE.add(
    "MSG_FASTOPEN with the flag, the first bytes go with the SYN",
    {"0": "EINVAL", "5.1": "16384 bytes sent, the SYN had data, content whole, 0 to 0 copied"},
    "Z6",
    document="the send fails",
)
def fast_open(bench: Bench) -> str:
    """A send that connects can be counted, too."""
    own_network()
    # Client and server, both without a cookie.
    _fast_open_setting(0x1 | 0x2 | 0x4 | 0x200)
    listening = listener(bench)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
    sender = unconnected(bench)
    sent = payload(4 * PAGE)
    try:
        taken = sender.sendto(
            memory(bench, sent).view(), MSG_ZEROCOPY | MSG_FASTOPEN, listening.getsockname()[:2]
        )
    except OSError as error:
        return error_name(error)
    receiver = bench.keep(listening.accept()[0])
    content = whole(read(receiver, taken), sent)
    told = said(await_completions(sender, 1))
    syn = "the SYN had data" if syn_had_data(sender) else "the SYN had no data"
    return f"{taken} bytes sent, {syn}, {content}, {told}"


@TABLE.add(
    "MSG_FASTOPEN with the flag where fast open is off, then connect() and a send",
    {"0": "EINVAL, then 0 to 0 copied", "5.1": "EOPNOTSUPP, then 0 to 0 copied"},
    "Z6",
    "Z9",
)
def fast_open_is_off(bench: Bench) -> str:
    """Fast open fails as it does without the flag, and is not counted."""
    own_network()
    _fast_open_setting(0)
    listening = listener(bench)
    sender = unconnected(bench)
    area = memory(bench, payload(PAGE))
    address = listening.getsockname()[:2]
    refused = outcome(lambda: sender.sendto(area.view(), MSG_ZEROCOPY | MSG_FASTOPEN, address))
    sender.connect(address)
    bench.keep(listening.accept()[0])
    send(sender, area.view())
    return f"{refused}, then {said(await_completions(sender, 1))}"


# Limits


@TABLE.add(
    "more notifications wait than a small optmem_max has room for; without SO_ZEROCOPY; with 1048576",
    "ENOBUFS with option memory used up; as a copy ok; then ok; completions without a gap",
    "Z4",
    "Z8",
    "Z9",
)
def option_memory_is_bounded(bench: Bench) -> str:
    """Notifications take option memory, and a socket has only so much."""
    set_optmem_max = _optmem_setting(bench)
    sender, receiver = stalled(bench)
    area = memory(bench, payload(PAGE))
    set_optmem_max(4096)
    sends, refused = 0, ""
    while not refused and sends < 64:
        try:
            send(sender, area.view(), socket.MSG_EOR)
        except OSError as error:
            refused = _refusal(sender, error, 4096)
        else:
            sends += 1
        # A plain segment in between: the next send needs a notification of its own.
        sender.send(b"-", socket.MSG_EOR)
    plain = sends + bool(refused)
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 0)
    copied = outcome(lambda: send(sender, area.view()))
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    set_optmem_max(1048576)
    cured = outcome(lambda: send(sender, area.view()))
    take_away(receiver, len(FRONT) + plain + PAGE * (sends + 2))
    told = said(await_completions(sender, sends + 1))
    gap = "completions without a gap" if told == str(Completion(0, sends, True)) else told
    return f"{refused or 'no error'}; as a copy {copied}; then {cured}; {gap}"


@TABLE.add(
    "an unprivileged user who may lock 16 pages sends four pages thrice, and again after completion",
    "ok, ok, ENOBUFS with option memory left; then ok; 0 to 2 copied",
    "Z8",
    "Z9",
    "Z13",
)
def locked_memory_is_bounded(bench: Bench) -> str:
    """What is pinned counts as locked memory, two pages more for each send, until it is completed."""
    user = USER + os.getpid()
    sender, receiver = stalled(bench)
    area = memory(bench, payload(4 * PAGE))
    first = _try(user, sender, area, 3)
    take_away(receiver, len(FRONT) + 8 * PAGE)
    told = await_completions(sender, 2)
    again = _try(user, sender, area, 1)
    told += await_completions(sender, 1)
    return f"{first}; then {again}; {said(told)}"


@TABLE.add(
    "one user in two processes, and another user, each with 12 of the 16 pages they may lock",
    "ok, ok; same user ENOBUFS with option memory left; other user ok, ok",
    "Z8",
)
def locked_memory_is_counted_by_user(bench: Bench) -> str:
    """The limit is the user's, whatever process or socket sends."""
    user = USER + os.getpid()
    area = memory(bench, payload(4 * PAGE))
    senders = [stalled(bench)[0] for _ in range(3)]
    first = _try(user, senders[0], area, 2)
    same = _try(user, senders[1], area, 1)
    other = _try(user + 1, senders[2], area, 2)
    return f"{first}; same user {same}; other user {other}"


@TABLE.add("a privileged user with the same limit (CAP_IPC_LOCK)", "ok, ok, ok, ok", "Z8")
def privilege_escapes_the_limit(bench: Bench) -> str:
    """Who may lock any memory is not counted."""
    sender, _ = stalled(bench)
    area = memory(bench, payload(4 * PAGE))
    return _try(0, sender, area, 4)


@TABLE.add("an unprivileged user with that limit, without SO_ZEROCOPY", "ok, ok, ok, ok; none", "Z4", "Z8")
def a_copy_locks_nothing(bench: Bench) -> str:
    """The flag alone sends a copy: no limit, no completion."""
    sender, receiver = stalled(bench)
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 0)
    area = memory(bench, payload(4 * PAGE))
    tried = _try(USER + os.getpid(), sender, area, 4)
    take_away(receiver, len(FRONT) + 16 * PAGE)
    settle(sender)
    return f"{tried}; {take(sender) or 'none'}"


@TABLE.add(
    "the connection of a user at the limit is reset with completions pending",
    "ok, ok, ENOBUFS with option memory left; 0 to 1; after the reset ok",
    "Z8",
    "Z13",
)
def reset_unlocks(bench: Bench) -> str:
    """What a connection had pinned is free with its end."""
    user = USER + os.getpid()
    area = memory(bench, payload(4 * PAGE))
    sender, receiver = stalled(bench)
    first = _try(user, sender, area, 3)
    # Closed with data unread: the peer is sent a reset, and drops all that it has queued.
    receiver.close()
    told = said(await_completions(sender, 2))
    other, _ = stalled(bench)
    return f"{first}; {told}; after the reset {_try(user, other, area, 1)}"


# Sends that fail


@TABLE.add("a send, one from a bad address, a send", "EFAULT, 0 to 1 copied, content whole", "Z9")
def bad_address_leaves_no_gap(bench: Bench) -> str:
    """A send that took nothing is not counted."""
    sender, receiver = connected(bench)
    sent = payload(2 * PAGE)
    area = memory(bench, sent)
    gone = map_memory(bench, PAGE)
    nowhere = gone.view()
    gone.unmap()
    send(sender, area.view(0, PAGE))
    failed = outcome(lambda: send(sender, nowhere))
    send(sender, area.view(PAGE))
    content = whole(read(receiver, len(sent)), sent)
    settle(sender)
    return f"{failed}, {said(await_completions(sender, 2))}, {content}"


@TABLE.add("a send whose second page is not there, then a send", "EFAULT, 0 to 0 copied, content whole", "Z9")
def partly_bad_address(bench: Bench) -> str:
    """A buffer that is there only in part is refused, its first pages too."""
    sender, receiver = connected(bench)
    sent = payload(PAGE)
    area = memory(bench, payload(2 * PAGE, seed=2))
    both = area.view()
    area.unmap(PAGE, PAGE)
    area.length = PAGE
    failed = outcome(lambda: send(sender, both))
    send(sender, memory(bench, sent).view())
    content = whole(read(receiver, len(sent)), sent)
    settle(sender)
    return f"{failed}, {said(await_completions(sender, 1))}, {content}"


@TABLE.add(
    "a send that waits, one that finds the buffer full, a send",
    "EAGAIN, 0 to 1 copied, content whole",
    "Z9",
)
def full_buffer_leaves_no_gap(bench: Bench) -> str:
    """A send that is refused is not counted, although it had a part in the notification of one that waits."""
    sender, receiver = stalled(bench)
    sent = payload(2 * PAGE)
    area = memory(bench, sent)
    send(sender, area.view(0, PAGE), socket.MSG_EOR)
    room = sender.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1)
    failed = outcome(lambda: send(sender, area.view(), socket.MSG_DONTWAIT))
    sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, room)
    send(sender, area.view(PAGE))
    take_away(receiver, len(FRONT))
    content = whole(read(receiver, len(sent)), sent)
    settle(sender)
    return f"{failed}, {said(await_completions(sender, 2))}, {content}"


@TABLE.add("a send, then one after shutdown()", "EPIPE, 0 to 0 copied, then none", "Z9")
def send_after_shutdown(bench: Bench) -> str:
    """A send on a connection that is shut is not told."""
    sender, _ = connected(bench)
    area = memory(bench, payload(PAGE))
    send(sender, area.view())
    sender.shutdown(socket.SHUT_WR)
    failed = outcome(lambda: send(sender, area.view()))
    settle(sender)
    return f"{failed}, {said(await_completions(sender, 1))}, then {take(sender) or 'none'}"


# What is sent


@TABLE.add(
    "a buffer is changed while it waits in the send queue",
    "the change arrives; before it, after it and on another connection content whole",
    "Z10",
)
def change_in_flight(bench: Bench) -> str:
    """Pages are not write-protected: who changes them changes what he sends, and nothing else."""
    sender, receiver = stalled(bench)
    other_sender, other_receiver = stalled(bench)
    mine, others, changed, after = (payload(2 * PAGE, seed) for seed in (1, 2, 3, 4))
    area = memory(bench, mine + others)
    send(sender, area.view(0, len(mine)))
    sender.send(after)
    send(other_sender, area.view(len(mine)))
    if unsent(sender) < len(mine) + len(after):
        return "some of it did not wait"
    area.view(0, len(mine))[:] = changed
    before = read(receiver, len(FRONT)) == FRONT
    change = "the change arrives" if read(receiver, len(mine)) == changed else "the change does not arrive"
    rest = read(receiver, len(after)) == after
    elsewhere = read(other_receiver, len(FRONT) + len(others)) == FRONT + others
    content = "content whole" if before and rest and elsewhere else "content changed"
    return f"{change}; before it, after it and on another connection {content}"


@TABLE.add(
    "lengths 0, 1, 100, one page, three pages, 64 KiB, 8 MiB",
    "0: none; then 0 to 5 copied, content whole",
    "Z11",
)
def lengths(bench: Bench) -> str:
    """Any length can be sent; a send of nothing is not told."""
    return _lengths(bench, *connected(bench))


@TABLE.add("the same under TCP_CORK", "0: none; then 0 to 5 copied, content whole", "Z11")
def lengths_corked(bench: Bench) -> str:
    """So it is where segments wait to be filled."""
    sender, receiver = connected(bench)
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    return _lengths(bench, sender, receiver)


@TABLE.add("the same with MSG_MORE", "0: none; then 0 to 5 copied, content whole", "Z11")
def lengths_with_more(bench: Bench) -> str:
    """So it is where the program says that more will come."""
    return _lengths(bench, *connected(bench), flags=socket.MSG_MORE)


@TABLE.add("plain sends and others by turns, corked", "0 to 7 copied, content whole", "Z1", "Z11")
def corked_among_copies(bench: Bench) -> str:
    """Segments may hold both, and plain sends are not counted."""
    sender, receiver = connected(bench)
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    received = reading(receiver)
    sent = payload(16 * 3000)
    area = memory(bench, sent)
    for at in range(0, len(sent), 6000):
        sender.sendall(sent[at : at + 3000])
        send(sender, area.view(at + 3000, 3000))
    sender.shutdown(socket.SHUT_WR)
    return f"{said(await_completions(sender, 8))}, {whole(received(), sent)}"


@TABLE.add(
    "UDP datagrams of 0, 1, 100, a page, and the largest; then one byte more",
    "0 to 4 copied, content whole, EMSGSIZE, then none",
    "Z9",
    "Z11",
)
def datagram_lengths(bench: Bench) -> str:
    """Datagrams of any length can be sent, and one that is too long is not counted. An empty one is told."""
    sender, receiver = udp_pair(bench)
    largest = 65535 - 8 - (20 if bench.family == 4 else 0)
    sent = payload(largest + 1)
    area = memory(bench, sent)
    told, content = [], True
    for length in (0, 1, 100, PAGE, largest):
        send(sender, area.view(0, length))
        content &= receiver.recv(1 << 17) == sent[:length]
        told += await_completions(sender, 1)
    failed = outcome(lambda: send(sender, area.view()))
    arrived = "content whole" if content else "content changed"
    return f"{said(told)}, {arrived}, {failed}, then {take(sender) or 'none'}"


@TABLE.add(
    "a UDP datagram of two sends, the first with MSG_MORE",
    "one datagram, content whole, 0 to 1 copied",
    "Z11",
)
def datagram_corked(bench: Bench) -> str:
    """Each send into a datagram is counted."""
    sender, receiver = udp_pair(bench)
    sent = payload(2 * PAGE)
    area = memory(bench, sent)
    send(sender, area.view(0, 3000), socket.MSG_MORE)
    send(sender, area.view(3000))
    got = receiver.recv(1 << 16)
    datagrams = "one datagram" if len(got) == len(sent) else f"a datagram of {len(got)}"
    return f"{datagrams}, {whole(got, sent)}, {said(await_completions(sender, 2))}"


@TABLE.add("the interface has scatter-gather off (veth)", "off; 0: none; then 0 to 5, content whole", "Z11")
def scatter_gather_off(bench: Bench) -> str:
    """A device that takes no fragments is sent a copy."""
    link = linked(bench)
    setting = _on_off(offload(link.near, SCATTER_GATHER, False))
    # Which of them the kernel calls copied depends on how they were cut into segments.
    return f"{setting}; {_lengths(bench, *across(bench, link), tell=_ranges)}"


@TABLE.add(
    "scatter-gather is off, so that sends are copied: one that fits a packet, one of two packets (veth)",
    "off; 0 to 0 copied; 1 to 1; content whole",
    "Z3",
    document="off; 0 to 0 copied; 1 to 1 copied; content whole",
)
def copies_of_segments_are_not_told(bench: Bench) -> str:
    """A copy that is made when the kernel cuts a send into packets is not told as one."""
    link = linked(bench)
    setting = _on_off(offload(link.near, SCATTER_GATHER, False))
    sender, receiver = across(bench, link)
    packet = sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    sent = payload(3 * packet)
    area = memory(bench, sent)
    send(sender, area.view(0, packet))
    content = read(receiver, packet)
    told = [said(await_completions(sender, 1))]
    send(sender, area.view(packet))
    content += read(receiver, 2 * packet)
    told.append(said(await_completions(sender, 1)))
    return f"{setting}; {'; '.join(told)}; {whole(content, sent)}"


@TABLE.add("scatter-gather is turned off while sends wait (veth)", "off; 0 to 3, content whole", "Z11")
def scatter_gather_turned_off(bench: Bench) -> str:
    """What was queued for a device that takes fragments arrives although it no longer does."""
    link = linked(bench)
    sender, receiver = stall(*across(bench, link))
    sent = payload(1 << 18)
    area = memory(bench, sent)
    for at in range(0, len(sent), 1 << 16):
        send(sender, area.view(at, 1 << 16))
    setting = _on_off(offload(link.near, SCATTER_GATHER, False))
    take_away(receiver, len(FRONT))
    content = whole(read(receiver, len(sent)), sent)
    return f"{setting}; {_ranges(await_completions(sender, 4))}, {content}"


@TABLE.add(
    "checksums are computed by neither interface (veth)",
    "receiving off, sending off; 0: none; then 0 to 5 copied, content whole",
    "Z11",
)
def checksum_offload_off(bench: Bench) -> str:
    """The kernel reads the pages itself to send them, and checks what it receives."""
    link = linked(bench)
    with link.beyond():
        receiving = _on_off(offload(link.far, RX_CHECKSUM, False))
    sending = _on_off(offload(link.near, TX_CHECKSUM, False))
    told = _lengths(bench, *across(bench, link))
    return f"receiving {receiving}, sending {sending}; {told}"


@TABLE.add(
    "lengths 1, 100, one page, three pages, 64 KiB, 8 MiB to the other host",
    "0: none; then 0 to 5, content whole",
    "Z11",
)
def lengths_on_the_link(bench: Bench) -> str:
    """Any length goes out without a copy."""
    sender = to_sink(bench)
    nothing, told, sent = _send_lengths(bench, sender, 0)
    return f"0: {nothing}; then {said(told)}, {sink_says(sender, sent)}"


@TABLE.add("buffers that begin 1, 7, 2048 and 4095 bytes into a page", "0 to 3 copied, content whole", "Z12")
def unaligned_buffers(bench: Bench) -> str:
    """A buffer may begin anywhere."""
    sender, receiver = connected(bench)
    received = reading(receiver)
    sent = _send_unaligned(bench, sender)
    sender.shutdown(socket.SHUT_WR)
    return f"{said(await_completions(sender, 4))}, {whole(received(), sent)}"


@TABLE.add(
    "buffers that begin 1, 7, 2048 and 4095 bytes into a page, to the other host",
    "0 to 3, content whole",
    "Z12",
)
def unaligned_on_the_link(bench: Bench) -> str:
    """A device takes them from there."""
    sender = to_sink(bench)
    sent = _send_unaligned(bench, sender)
    return f"{said(await_completions(sender, 4))}, {sink_says(sender, sent)}"


@TABLE.add(
    "16000 bytes from four pages, and from forty",
    "one segment, then more; 0 to 1 copied, content whole",
    "Z12",
)
def pieces_make_small_segments(bench: Bench) -> str:
    """A segment has room for only so many pieces of memory."""
    sender, receiver = connected(bench)
    sent = payload(16000)
    area = memory(bench, sent)
    scattered = map_memory(bench, 80 * PAGE, protection=mmap.PROT_READ | mmap.PROT_WRITE)
    pieces = []
    for number in range(40):
        # With a page between two of them, so that they can not be joined.
        piece = scattered.view(2 * number * PAGE, 400)
        piece[:] = sent[400 * number : 400 * (number + 1)]
        pieces.append(piece)
    send(sender, area.view())
    content = read(receiver, len(sent))
    settle(sender)
    first = segments(sender)
    sender.sendmsg(pieces, [], MSG_ZEROCOPY)
    content += read(receiver, len(sent))
    settle(sender)
    more = "more" if segments(sender) - first > first else "no more"
    told = said(await_completions(sender, 2))
    return f"{'one segment' if first == 1 else first}, then {more}; {told}, {whole(content, sent + sent)}"


# Buffers and sockets that go away


@TABLE.add("the socket is closed with completions pending", "content whole", "Z13")
def closed_while_pending(bench: Bench) -> str:
    """What a closed socket has still to send is sent as it was."""
    sender, receiver = stalled(bench)
    sent = payload(1 << 18)
    send(sender, memory(bench, sent).view())
    sender.close()
    return whole(read_to_end(receiver), FRONT + sent)


@TABLE.add(
    "the buffer is unmapped with completions pending, and its address used for something else",
    "content whole, 0 to 0 copied",
    "Z13",
)
def unmapped_while_pending(bench: Bench) -> str:
    """The kernel has the pages, not their address."""
    sender, receiver = stalled(bench)
    sent = payload(1 << 18)
    area = memory(bench, sent)
    at, other = area.address, payload(len(sent), seed=2)
    send(sender, area.view())
    area.unmap()
    memory(bench, other, at)
    content = whole(read(receiver, len(FRONT) + len(sent)), FRONT + sent)
    return f"{content}, {said(await_completions(sender, 1))}"


@TABLE.add("the sending process ends with completions pending", "sent; content whole", "Z13")
def process_ends_while_pending(bench: Bench) -> str:
    """Nor does the kernel need the process."""
    sender, receiver = stalled(bench)
    sent = payload(1 << 18)

    def process() -> str:
        send(sender, memory(bench, sent).view())
        return "sent"

    done = as_user(0, process)
    sender.close()
    return f"{done}; {whole(read_to_end(receiver), FRONT + sent)}"


@TABLE.add("buffers are unmapped after the send, to the other host", "content whole, 0 to 3", "Z13")
def unmapped_on_the_link(bench: Bench) -> str:
    """A device reads pages that the program no longer has."""
    sender = to_sink(bench)
    sent = payload(1 << 20)
    for at in range(0, len(sent), 1 << 18):
        area = memory(bench, sent[at : at + (1 << 18)])
        send(sender, area.view())
        area.unmap()
    content = sink_says(sender, sent)
    return f"{content}, {said(await_completions(sender, 4))}"


@TABLE.add(
    "a tc filter copies what begins with a mark to another interface; of three sends, two are marked",
    "two copies whole, content whole, 0 to 2 copied",
)
def filter_reads_payload(bench: Bench) -> str:
    """A filter on the way out sees the program's pages."""
    own_network()
    run("ip", "link", "add", "copies", "mtu", "65535", "type", "veth", "peer", "name", "seen", "mtu", "65535")
    for interface in ("copies", "seen"):
        run("ip", "link", "set", interface, "up")
    marked, other = payload(2 * PAGE, seed=0x5A434C42), payload(2 * PAGE, seed=2)
    protocol, headers = ("ip", 20 + 32) if bench.family == 4 else ("ipv6", 40 + 32)
    run("tc", "qdisc", "add", "dev", "lo", "clsact")
    run(
        *("tc", "filter", "add", "dev", "lo", "egress", "protocol", protocol, "u32"),
        *("match", "u32", f"0x{marked[:4].hex()}", "0xffffffff", "at", str(headers)),
        *("action", "mirred", "egress", "mirror", "dev", "copies"),
    )
    tap = bench.keep(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
    tap.bind(("seen", 3))
    tap.settimeout(SECONDS)
    sender, receiver = connected(bench)
    area = memory(bench, marked + other)
    content = b""
    for at in (0, len(marked), 0):
        send(sender, area.view(at, len(marked)))
        content += read(receiver, len(marked))
        settle(sender)
    arrived = whole(content, marked + other + marked)
    return f"{_copies(tap, marked, other)}, {arrived}, {said(await_completions(sender, 3))}"


# What several rows do


def _lengths(
    bench: Bench,
    sender: socket.socket,
    receiver: socket.socket,
    flags: int = 0,
    tell: Callable[[Iterable[Completion]], str] = said,
) -> str:
    received = reading(receiver)
    nothing, told, sent = _send_lengths(bench, sender, flags)
    sender.shutdown(socket.SHUT_WR)
    return f"0: {nothing}; then {tell(told)}, {whole(received(), sent)}"


def _send_lengths(bench: Bench, sender: socket.socket, flags: int) -> tuple[str, list[Completion], bytes]:
    """Send nothing, then each of LENGTHS; return what was told of nothing and of them, and what was sent."""
    sent = payload(sum(LENGTHS))
    area = memory(bench, sent)
    send(sender, area.view(0, 0), flags)
    settle(sender)
    nothing = str(take(sender) or "none")
    at = 0
    for length in LENGTHS:
        send(sender, area.view(at, length), flags)
        at += length
    return nothing, await_completions(sender, len(LENGTHS)), sent


def _ranges(told: Iterable[Completion]) -> str:
    """Return completions as text, without which of them were copied."""
    return said(one._replace(copied=False) for one in told)


def _send_unaligned(bench: Bench, sender: socket.socket) -> bytes:
    sent = payload(1 << 18)
    area = memory(bench, sent)
    views = [area.view(offset, 100_000) for offset in (1, 7, 2048, 4095)]
    for view in views:
        send(sender, view)
    return b"".join(views)


def _copies(tap: socket.socket, marked: bytes, other: bytes) -> str:
    """Return what of a row's two marked sends and another one a tap has seen."""
    seen = 0
    while seen < 2:
        frame = tap.recv(1 << 17)
        if frame.endswith(other):
            return "a copy of what has no mark"
        seen += frame.endswith(marked)
    return "two copies whole"


def _on_off(on: bool) -> str:
    return "on" if on else "off"


def _try(user: int, sender: socket.socket, area: Mapping, times: int) -> str:
    """Return what came of a user's sending an area so many times."""
    limit = int(OPTMEM_MAX.read_text(encoding="ascii"))
    return as_user(user, lambda: ", ".join(_attempts(sender, area, times, limit)))


def _attempts(sender: socket.socket, area: Mapping, times: int, limit: int) -> list[str]:
    tried = []
    for _ in range(times):
        try:
            send(sender, area.view())
        except OSError as error:
            tried.append(_refusal(sender, error, limit))
        else:
            tried.append("ok")
    return tried


def _refusal(sender: socket.socket, error: OSError, limit: int) -> str:
    """Return the name of an error, and whether the socket's option memory has reached its limit."""
    left = "left" if optmem(sender) + NOTIFICATION <= limit else "used up"
    return f"{error_name(error)} with option memory {left}"


def _optmem_setting(bench: Bench) -> Callable[[int], object]:
    """Move to a network of the row's own, and return what sets its net.core.optmem_max.

    Before 6.8 that is the host's, which is put back with the bench.
    """
    host = os.open(OPTMEM_MAX, os.O_RDWR)
    bench.closing.callback(os.close, host)
    before = os.pread(host, 32, 0)
    own_network()
    if OPTMEM_MAX.exists():
        mine = os.open(OPTMEM_MAX, os.O_RDWR)
        bench.closing.callback(os.close, mine)
    else:
        mine = host
        bench.closing.callback(os.pwrite, host, before, 0)
    return lambda value: os.pwrite(mine, str(value).encode(), 0)


def _fast_open_setting(value: int) -> None:
    Path("/proc/sys/net/ipv4/tcp_fastopen").write_text(str(value), encoding="ascii")
