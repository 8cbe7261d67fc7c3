# SPDX-License-Identifier: Apache-2.0
"""Which of the kernel's own tests are run, why, how, and what in their output means failure.

Found by reading their sources. A test that is not here, and why: psock_snd, so_txtime, udpgso, txtimestamp,
tcp_fastopen_backup_key, socket, reuse*: nothing of theirs is mapped, pinned or counted by this code; mptcp/*:
another protocol's copy of it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from zclab.base.model import SendMode
from zclab.kernel.programs import SELFTESTS, Program

#: What tcp_mmap sends here instead of 32 GiB, which takes an emulated host hours.
TOTAL_MIB = 256
#: Of the share of bytes that the lab expects to be mapped, how much tcp_mmap has to reach. It counts from the
#: first byte on, as the window opens; the lab's bound is for zclab's own tool after its warm-up.
SHARE = 0.9
_UAPI = "include/uapi/linux"


class Change(NamedTuple):
    """Lines of a tree's file that are replaced, by a pattern of whole lines, and what is said of it.

    needed: the file is of no use here without.
    """

    file: str
    pattern: str
    replacement: str
    note: str
    needed: bool = False


class Wrong(NamedTuple):
    """A line that means failure whatever the exit status is, and what it means."""

    pattern: str
    meaning: str


class Excuse(NamedTuple):
    """A part that may fail where its kernel lacks an option, if what it printed matches."""

    part: str
    option: str
    printed: str = ""


class Selftest(NamedTuple):
    """A test that runs on one host, in a directory with its programs and scripts.

    needs: options that its kernel has to have. section: a line with which a part of it begins, its name in
    group 1. says: a line of each run that passed. excuses: parts that need more than the whole.
    host_network: it sets a limit that some kernels have in their first network namespace only.
    """

    name: str
    why: str
    command: str
    programs: tuple[str, ...]
    scripts: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    says: str | None = None
    wrong: tuple[Wrong, ...] = ()
    section: str | None = None
    excuses: tuple[Excuse, ...] = ()
    host_network: bool = False
    seconds: int = 120


class PairTest(NamedTuple):
    """tcp_mmap from one host to the other: how it is received and sent, over which IP version."""

    name: str
    why: str
    maps: bool
    send_mode: SendMode
    ip_version: Literal[4, 6]
    seconds: int = 300


def program(name: str) -> Program:
    """Return a program of the tree, with the headers that a machine's own may be older than."""
    headers = [f"{_UAPI}/tcp.h", f"{_UAPI}/tls.h"]
    if name == "io_uring_zerocopy_tx":
        headers += [f"{_UAPI}/io_uring.h", "tools/include/io_uring/mini_liburing.h"]
    return Program(name, f"{SELFTESTS}/{name}.c", tuple(headers))


TCP_MMAP = "tcp_mmap"
#: What is changed of the tree's files, each shown with the results. An emulated host does not start a program
#: within 0.2 s whenever it is asked to; a receiver that is not there yet, or no more, refuses.
CHANGES = (
    Change(
        f"{TCP_MMAP}.c",
        r"#define FILE_SZ \(1ULL << 35\)",
        f"#define FILE_SZ ({TOTAL_MIB}ULL << 20)",
        f"sends {TOTAL_MIB} MiB instead of 32 GiB",
        needed=True,
    ),
    *(
        Change(f"{name}.sh", r"\tsleep 0\.2", "\tsleep 0.7", "waits 0.7 s instead of 0.2 s for its receiver")
        for name in ("msg_zerocopy", "io_uring_zerocopy_tx")
    ),
    Change(
        "msg_zerocopy.sh",
        r"(\t\$0 [46] \w+) -t 1",
        r"\1",
        "its receivers wait for 2 s, as by default, instead of 1 s",
    ),
)
_FAILED = "an end that nobody waits for failed"
_NOTHING = Wrong(r"^[rt]x=0 ", "nothing was transferred")
_MSG_ZEROCOPY = (
    Wrong(r"^\./msg_zerocopy: ", _FAILED),
    Wrong(r"^missing notifications: ", "sends were not completed; the exit status is 0"),
    Wrong(r"^tx=(\d+) \(\d+ MB\) txc=(?!0 |\1 )", "another number of completions than of sends"),
    Wrong(r"^serr: inconsistent", "some sends were copied and some not; the exit status is 0"),
    _NOTHING,
)
_UDPGSO_BENCH = (
    Wrong(r"^\./udpgso_bench_rx: ", _FAILED),
    Wrong(r": received packet with origin: ", "the error queue held something of another origin"),
    Wrong(r": unknown (IP msg type|cmsg level)=", "the error queue held an entry that is not a completion"),
    Wrong(r"^SO_ZEROCOPY not supported", "sent without zero-copy"),
)
_VERDICTS = r"^running (\S+) test$"

TESTS = (
    Selftest(
        "msg_zerocopy",
        "MSG_ZEROCOPY over TCP and UDP from one namespace to another: every send must be completed",
        "./msg_zerocopy.sh",
        programs=("msg_zerocopy",),
        scripts=("msg_zerocopy.sh",),
        needs=("NET_NS", "VETH"),
        says=r"^OK\. All tests passed$",
        wrong=_MSG_ZEROCOPY,
        section=r"^(ipv[46] \w+\b.*)$",
        host_network=True,
    ),
    Selftest(
        "io_uring_zerocopy_tx",
        "the other way to send without a copy, through the same code of the stack",
        "./io_uring_zerocopy_tx.sh",
        programs=("io_uring_zerocopy_tx", "msg_zerocopy"),
        scripts=("io_uring_zerocopy_tx.sh",),
        needs=("NET_NS", "VETH", "IO_URING"),
        says=r"^OK\. All tests passed$",
        wrong=(*_MSG_ZEROCOPY, Wrong(r"^\./io_uring_zerocopy_tx: ", _FAILED)),
        section=r"^(ipv[46] \w+\b.*)$",
        host_network=True,
    ),
    *(
        Selftest(
            f"udpgso_bench {what} IPv{family}",
            why,
            f"./udpgso_bench.sh __subprocess -l 1 -{family} -D {address} {options}",
            programs=("udpgso_bench_tx", "udpgso_bench_rx"),
            scripts=("udpgso_bench.sh",),
            says=rf"^{what} tx: ",
            wrong=_UDPGSO_BENCH,
        )
        for family, address in ((4, "127.0.0.1"), (6, "::1"))
        for what, options, why in (
            ("udp", "-S 0 -z -a", "MSG_ZEROCOPY with segments made by the kernel: counts the completions"),
            ("tcp", "-t -z", "MSG_ZEROCOPY while another reads what was sent"),
        )
    ),
    *(
        Selftest(
            f"tcp_inq IPv{family}",
            "the number of queued bytes that recvmsg() reports, on which a reader of mapped bytes relies",
            f"./tcp_inq -{family}",
            programs=("tcp_inq",),
            says=r"^PASSED$",
            wrong=(
                Wrong(r"^(accept|send): ", "its thread that sends failed; the exit status is 0"),
                Wrong(r"^can only send ", "its thread sent less than meant; the exit status is 0"),
            ),
        )
        for family in (4, 6)
    ),
    Selftest(
        "run_afpackettests",
        "rings of packet sockets: the other mmap() of a socket, and frames sent from mapped memory",
        "./run_afpackettests",
        programs=("psock_fanout", "psock_tpacket", "txring_overwrite"),
        scripts=("run_afpackettests", "in_netns.sh"),
        needs=("NET_NS", "PACKET"),
        wrong=(Wrong(r"^wrong pattern: ", "a frame was overwritten before it was sent"),),
        section=_VERDICTS,
        excuses=(Excuse(r"^psock_fanout$", "BPF_SYSCALL", r"^bpf: Function not implemented$"),),
    ),
    Selftest(
        "tls",
        "a reader of the TCP receive queue within the kernel: peeks, splices, low-water marks, polls",
        "./tls",
        programs=("tls",),
        needs=("TLS",),
        excuses=(
            Excuse(r"chacha", "CRYPTO_CHACHA20POLY1305"),
            Excuse(r"sm4", "CRYPTO_SM4_GENERIC"),
            Excuse(r"aes_ccm", "CRYPTO_CCM"),
        ),
        seconds=300,
    ),
)
_BETWEEN_HOSTS = "TCP_ZEROCOPY_RECEIVE between two hosts"
PAIR_TESTS = (
    PairTest("tcp_mmap IPv4", _BETWEEN_HOSTS, maps=True, send_mode="copy", ip_version=4),
    PairTest("tcp_mmap IPv6", _BETWEEN_HOSTS, maps=True, send_mode="copy", ip_version=6),
    PairTest(
        "tcp_mmap zerocopy sender",
        "TCP_ZEROCOPY_RECEIVE of what was sent with MSG_ZEROCOPY",
        maps=True,
        send_mode="zerocopy",
        ip_version=6,
    ),
    PairTest(
        "tcp_mmap copied",
        "the same program when it copies: what is wrong here is not of mapping",
        maps=False,
        send_mode="copy",
        ip_version=6,
    ),
)
#: Of tcp_mmap only a complaint is to be seen: it goes on, and its exit status is 0.
TCP_MMAP_WRONG = (
    Wrong(r"^(mmap|socket|bind|listen|accept|connect|pthread_create): ", "the program could not go on"),
    Wrong(r"^setsockopt \S+: ", "an option was refused; the program goes on without it"),
    Wrong(r"^setsockopt SO_ZEROCOPY, ", "it sent without zero-copy; the exit status is 0"),
)
#: Patterns of the tree's files that these are made of.
FILES = (
    f"{SELFTESTS}/*.[ch]",
    f"{SELFTESTS}/*.sh",
    f"{SELFTESTS}/run_afpackettests",
    "tools/testing/selftests/*.h",
    f"{_UAPI}/tcp.h",
    f"{_UAPI}/tls.h",
    f"{_UAPI}/io_uring.h",
    "tools/include/io_uring/*.h",
)
PROGRAMS = tuple(dict.fromkeys([TCP_MMAP, *(name for test in TESTS for name in test.programs)]))
SCRIPTS = tuple(dict.fromkeys(name for test in TESTS for name in test.scripts))
