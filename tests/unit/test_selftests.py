# SPDX-License-Identifier: Apache-2.0
"""The kernel's own tests: what their output says, problems that are only printed, two kernels compared."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests import factories

from zclab.base.errors import UsageError
from zclab.host.ssh import Completed, RemoteError
from zclab.measure.session import ConsoleWatch, Ends, Session
from zclab.runs.folder import Run
from zclab.suites.selftests import document as documents
from zclab.suites.selftests import output as reading
from zclab.suites.selftests import run, show, table
from zclab.suites.selftests.build import Built
from zclab.suites.selftests.document import (
    SELFTESTS,
    Result,
    SelftestsDocument,
    SelftestsManifest,
    Subtest,
    TestDocument,
)
from zclab.suites.selftests.table import PAIR_TESTS, TESTS, TOTAL_MIB, Excuse, PairTest, Selftest, Wrong

BY_NAME = {test.name: test for test in TESTS}
PLAIN = Selftest("plain", "", "./plain", ())
EVERYTHING = {"NET_NS", "VETH", "PACKET", "TLS", "IO_URING", "BPF_SYSCALL", "KALLSYMS"}


def came_of(test: Selftest, status: int | None, output: str, options: set[str] = EVERYTHING) -> Any:
    """Return result and reason of a test that printed this."""
    found = reading.read(test, status, output, options)
    return found.result, found.reason


def parts(test: Selftest, status: int | None, output: str, options: set[str] = EVERYTHING) -> dict[str, str]:
    return {part.name: part.result for part in reading.read(test, status, output, options).subtests}


# ------------------------------------------------------------------------------------------------------ KTAP

KTAP = """\
TAP version 13
1..4
# Starting 4 tests from 1 test cases.
#  RUN           tls.12_aes_gcm.sendfile ...
#            OK  tls.12_aes_gcm.sendfile
ok 1 tls.12_aes_gcm.sendfile
    ok 1 a part of the next
ok 2 - tls.12_aes_gcm.peek
#  RUN           tls.12_aes_gcm.splice ...
ok 3 # SKIP no TLS support
not ok 4 later # XFAIL known
# Totals: pass:2 fail:0 xfail:1 xpass:0 skip:1 error:0
"""


def test_ktap() -> None:
    assert came_of(PLAIN, 0, KTAP) == ("pass", None)
    assert parts(PLAIN, 0, KTAP) == {
        "tls.12_aes_gcm.sendfile": "pass",
        "tls.12_aes_gcm.peek": "pass",
        "tls.12_aes_gcm.splice": "skipped",
        "later": "pass",
    }
    assert reading.read(PLAIN, 0, KTAP, set()).subtests[2].reason == "no TLS support"


@pytest.mark.parametrize("status", [0, 1])
def test_a_failing_part_fails_the_test_whatever_its_exit_status(status: int) -> None:
    output = KTAP.replace("ok 2", "not ok 2")
    assert came_of(PLAIN, status, output) == ("fail", "failed: tls.12_aes_gcm.peek")


def test_many_failing_parts_are_not_all_named() -> None:
    output = "1..7\n" + "".join(f"not ok {number} part{number}\n" for number in range(1, 8))
    assert came_of(PLAIN, 1, output)[1] == "failed: part1, part2, part3, part4, part5 and 2 more"


def test_parts_that_are_missing() -> None:
    _, reason = came_of(PLAIN, 0, KTAP.replace("ok 2", "# no"))
    assert reason == "4 parts were planned, 3 reported their result"
    assert came_of(PLAIN, 0, "ok 1 one\n") == ("fail", "it printed no plan")
    assert came_of(PLAIN, 1, "1..2\nok 1 one\nBail out! no memory\n")[1].startswith("Bail out! no memory; 2")


def test_all_parts_skipped_is_a_skipped_test() -> None:
    assert came_of(PLAIN, 0, "1..1\nok 1 one # SKIP not here\n")[0] == "skipped"
    assert came_of(PLAIN, 4, "TAP version 13\n1..0 # SKIP not here\n") == ("skipped", "1..0 # SKIP not here")


# ----------------------------------------------------------------------------------------------- plain output


@pytest.mark.parametrize(
    ("status", "output", "wanted"),
    [
        (0, "whatever\n", ("pass", None)),
        (1, "recv: bad\n\n", ("fail", "exit status 1: recv: bad")),
        (1, "", ("fail", "exit status 1: no message")),
        (4, "must be run as root\n", ("skipped", "must be run as root")),
        (None, "", ("fail", "it was ended by a signal")),
        (137, "still at it\n", ("fail", "no end within 120 s")),
    ],
)
def test_exit_statuses(status: int | None, output: str, wanted: tuple[str, str | None]) -> None:
    assert came_of(PLAIN, status, output) == wanted


def test_a_test_has_to_say_that_it_passed() -> None:
    test = BY_NAME["tcp_inq IPv4"]
    assert came_of(test, 0, "PASSED\n") == ("pass", None)
    assert came_of(test, 0, "") == ("fail", "exit status 0, but it did not print ^PASSED$")


MSG_ZEROCOPY = """\
ipv4 tcp -t 1
cpu: unable to pin, may increase variance.
tx=9053 (564 MB) txc=0 zc=n
rx=4527 (564 MB)
ipv4 tcp -z -t 1
tx=8523 (531 MB) txc=8523 zc=n
rx=4262 (531 MB)
ok
OK. All tests passed
"""


def test_msg_zerocopy_passes_part_by_part() -> None:
    test = BY_NAME["msg_zerocopy"]
    assert came_of(test, 0, MSG_ZEROCOPY) == ("pass", None)
    assert parts(test, 0, MSG_ZEROCOPY) == {"ipv4 tcp -t 1": "pass", "ipv4 tcp -z -t 1": "pass"}


@pytest.mark.parametrize(
    ("printed", "meaning"),
    [
        ("missing notifications: 8522 < 8523", "sends were not completed"),
        ("tx=8523 (531 MB) txc=8522 zc=n", "another number of completions"),
        ("tx=8523 (531 MB) txc=85230 zc=n", "another number of completions"),
        ("serr: inconsistent", "some sends were copied and some not"),
        ("rx=0 (0 MB)", "nothing was transferred"),
        ("./msg_zerocopy: flush: Connection reset by peer", "an end that nobody waits for failed"),
    ],
)
def test_msg_zerocopy_only_prints_a_problem(printed: str, meaning: str) -> None:
    """The exit status is 0 and it says that all passed; the part that printed it is named."""
    test = BY_NAME["msg_zerocopy"]
    output = MSG_ZEROCOPY.replace("rx=4262 (531 MB)", printed)
    result, reason = came_of(test, 0, output)
    assert result == "fail"
    assert f"printed {printed!r}: {meaning}" in reason
    assert parts(test, 0, output) == {"ipv4 tcp -t 1": "pass", "ipv4 tcp -z -t 1": "fail"}


def test_msg_zerocopy_ends_early() -> None:
    test = BY_NAME["msg_zerocopy"]
    output = MSG_ZEROCOPY.partition("tx=8523")[0] + "Cannot find device\n"
    assert came_of(test, 1, output) == ("fail", "failed: ipv4 tcp -z -t 1")
    assert reading.read(test, 1, output, EVERYTHING).subtests[1].reason == "exit status 1: Cannot find device"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("tcp_inq IPv6", "accept: Too many open files"),
        ("tcp_inq IPv4", "can only send 4096 bytes"),
        ("udpgso_bench udp IPv4", "./udpgso_bench_rx: recv: Bad file descriptor"),
        (
            "udpgso_bench udp IPv6",
            "./udpgso_bench_tx: received packet with origin: 4: Operation not permitted",
        ),
        ("udpgso_bench tcp IPv4", "SO_ZEROCOPY not supported./udpgso_bench_tx: setsockopt zerocopy: no"),
        ("io_uring_zerocopy_tx", "./io_uring_zerocopy_tx: send failed: Invalid argument"),
        ("run_afpackettests", "wrong pattern: 0x62 != 0x61"),
    ],
)
def test_other_problems_that_are_only_printed(name: str, line: str) -> None:
    passed = "OK. All tests passed\nPASSED\nudp tx: 1\ntcp tx: 1\n"
    assert came_of(BY_NAME[name], 0, passed)[0] == "pass"
    result, reason = came_of(BY_NAME[name], 0, f"{line}\n{passed}")
    assert result == "fail"
    assert f"printed {line!r}: " in reason


AFPACKET = """\
--------------------
running psock_fanout test
--------------------
test: datapath 0x7 ports 8000,8004
bpf: Function not implemented
bpf verifier:

[FAIL]
--------------------
running psock_tpacket test
--------------------
[SKIP] CONFIG_KALLSYMS not enabled
--------------------
running txring_overwrite test
--------------------
read: a (0x61)
[PASS]
"""


def test_a_part_that_its_kernel_can_not_do() -> None:
    """It is skipped only where the option is missing and the output says so; it then explains the status."""
    test = BY_NAME["run_afpackettests"]
    assert came_of(test, 1, AFPACKET, {"PACKET"}) == ("pass", None)
    assert parts(test, 1, AFPACKET, {"PACKET"}) == {
        "psock_fanout": "skipped",
        "psock_tpacket": "skipped",
        "txring_overwrite": "pass",
    }
    assert came_of(test, 1, AFPACKET) == ("fail", "failed: psock_fanout")
    other = AFPACKET.replace("bpf: Function not implemented", "ERROR: joined group with wrong mode")
    assert came_of(test, 1, other, {"PACKET"}) == ("fail", "failed: psock_fanout")
    both = AFPACKET.replace("[PASS]", "[FAIL]")
    assert came_of(test, 1, both, {"PACKET"}) == ("fail", "failed: txring_overwrite")


def test_an_excuse_is_for_a_failure_only() -> None:
    test = PLAIN._replace(excuses=(Excuse("chacha", "CHACHA"),))
    output = "1..2\nok 1 chacha\nnot ok 2 gcm\n"
    assert parts(test, 1, output, set()) == {"chacha": "pass", "gcm": "fail"}


# --------------------------------------------------------------------------------------------------- tcp_mmap

MAPPED = PAIR_TESTS[0]
COPIED = next(test for test in PAIR_TESTS if not test.maps)


def received(mib: float = TOTAL_MIB, mapped: float = 98.2) -> str:
    return (
        f"received {mib:g} MB ({mapped:g} % mmap'ed) in 3.3 s, 0.63 Gbit\n"
        "  cpu usage user:0.005854 sys:0.436282, 1727.09 usec per MB, 551 c-switches\n"
    )


def pair(test: PairTest, output: str, complaints: str = "", at_least: float | None = 0.99) -> Any:
    found = reading.read_pair(test, output, complaints, at_least)
    return found.result, found.reason


def test_tcp_mmap_passes() -> None:
    hint = "listening 8787\nMAP_HUGETLB attempt failed, look at /sys/kernel/mm/hugepages for optimal ...\n"
    assert pair(MAPPED, received(), hint) == ("pass", None)
    assert pair(MAPPED, received(mapped=0), at_least=None) == ("pass", None)
    assert pair(COPIED, received(mapped=0)) == ("pass", None)


@pytest.mark.parametrize(
    ("test", "output", "complaints", "reason"),
    [
        (MAPPED, received(TOTAL_MIB - 0.5), "", "255.5 MiB were received of 256"),
        (MAPPED, received(mapped=60), "", "60.00% was mapped, at least 89% should be"),
        (COPIED, received(mapped=1), "", "1.00% was mapped by a reader that copies"),
        (
            MAPPED,
            "",
            "listening 8787\nmmap: Invalid argument\n",
            "mmap: Invalid argument': the program could",
        ),
        (MAPPED, "", "", "the receiver printed no result"),
        (MAPPED, received(), "setsockopt SO_RCVLOWAT: Invalid argument\n", "an option was refused"),
        (MAPPED, received(), "setsockopt SO_ZEROCOPY, (-z option disabled): no\n", "sent without zero-copy"),
    ],
)
def test_tcp_mmap_ends_well_and_is_wrong(test: PairTest, output: str, complaints: str, reason: str) -> None:
    result, why = pair(test, output, complaints)
    assert result == "fail"
    assert reason in why


# ------------------------------------------------------------------------------------------------ the table


def test_the_table() -> None:
    tests: list[Selftest | PairTest] = [*TESTS, *PAIR_TESTS]
    assert len({test.name for test in tests}) == len(tests)
    assert all(test.why for test in tests)
    assert {"msg_zerocopy", "tcp_mmap", "tcp_inq"} <= set(table.PROGRAMS)


# -------------------------------------------------------------------------------- on hosts that are pretended


class FakeRemote:
    """A host that answers what it is told to; a null answer is a host that is lost."""

    def __init__(self, name: str, answer: Completed | None = None, config: str = "") -> None:
        self.name = name
        self.answer = answer
        self.config = config
        self.commands: list[str] = []
        self.closed = 0

    def output(self, command: str) -> str:
        return self.config

    def run(self, command: str, seconds: float) -> Completed:
        self.commands.append(command)
        if self.answer is None:
            raise RemoteError(f"{self.name}: no end in time: {command[:10]}: see what holds it")
        return self.answer

    def close(self) -> None:
        self.closed += 1


def bench(
    receiver: FakeRemote, missing: dict[str, str] | None = None, ends: Ends | None = None
) -> run._Bench:
    lab = factories.lab()
    pair = lab.pair()
    remotes: Any = {pair.sender.name: FakeRemote(pair.sender.name), pair.receiver.name: receiver}
    changed = {"tcp_mmap": "tcp_mmap sends less"}
    session = PretendedSession(lab, [*pair], remotes, None, {}, None, ConsoleWatch({}, {}), {}, ends, [])
    return run._Bench(session, Built([], "tree", missing or {}, changed))


@dataclass(frozen=True)
class PretendedSession(Session):
    """A session in which a transfer leaves what it is told to."""

    ends: Ends | None
    asked: list[tuple[str, str]]

    def transfer(self, receive: str, send: Callable[[int], str], *_: Any) -> Ends:
        self.asked.append((receive, send(8787)))
        assert self.ends is not None
        return self.ends


CONFIG = "CONFIG_NET_NS=y\nCONFIG_VETH=m\n# CONFIG_IO_URING is not set\n"


def test_a_test_that_ran() -> None:
    host = FakeRemote("receiver1", Completed(0, MSG_ZEROCOPY, ""), CONFIG)
    found = bench(host).tried(BY_NAME["msg_zerocopy"])
    assert (found.result, found.reason, len(found.subtests)) == ("pass", None, 2)
    assert found.seconds is not None
    assert found.output_tail == MSG_ZEROCOPY.strip()
    assert found.command == "./msg_zerocopy.sh"


def test_a_test_that_can_not_be_run_here_is_not_run() -> None:
    host = FakeRemote("receiver1", Completed(0, "", ""), CONFIG)
    found = bench(host).tried(BY_NAME["io_uring_zerocopy_tx"])
    assert (found.result, found.reason) == ("skipped", "the kernel has no CONFIG_IO_URING")
    assert (found.seconds, found.output_tail, host.commands) == (None, None, [])
    missing = {"tcp_inq": "it does not compile", "tcp_mmap": "the tree has none"}
    assert bench(host, missing).tried(BY_NAME["tcp_inq IPv4"]).reason == "it does not compile"
    assert bench(host, missing).tried(MAPPED).reason == "the tree has none"
    assert host.commands == []


def test_a_host_that_is_lost_fails_the_test_and_not_the_rest() -> None:
    host = FakeRemote("receiver1", None, CONFIG)
    tried = bench(host)
    found = tried.tried(BY_NAME["tcp_inq IPv4"])
    assert (found.result, host.closed) == ("fail", 1)
    assert "no end in time" in (found.reason or "")
    host.answer = Completed(0, "PASSED\n", "")
    assert tried.tried(BY_NAME["tcp_inq IPv4"]).result == "pass"


@pytest.mark.parametrize(
    ("sent", "result", "reason"),
    [
        (Completed(0, "", ""), "pass", None),
        (Completed(124, "", ""), "fail", "the sender: no end within 300 s"),
        (
            Completed(1, "", "connect: Connection refused\n"),
            "fail",
            "the sender: status 1; printed 'connect: C",
        ),
        (None, "fail", "the sender: status None"),
    ],
)
def test_tcp_mmap_between_hosts(sent: Completed | None, result: str, reason: str | None) -> None:
    ends = Ends(Completed(None, received(), ""), sent)
    tried = bench(FakeRemote("receiver1", config=CONFIG), ends=ends)
    found = tried.tried(MAPPED)
    assert found.result == result
    assert (found.reason or "").startswith(reason or "")
    assert found.changed == "tcp_mmap sends less"
    session = tried._session
    assert isinstance(session, PretendedSession)
    ((receive, send),) = session.asked
    address = factories.lab().pair()[1].data_address_ipv4
    assert address is not None
    for command in (receive, send):
        assert f"{run.DIRECTORY}/tcp_mmap" in command
        assert address.partition("/")[0] in command


# ------------------------------------------------------------------------------------------- two kernels


def made(name: str, result: Result = "pass", subtests: dict[str, Result] | None = None) -> TestDocument:
    return TestDocument(
        name=name,
        why="why",
        command=f"./{name}",
        result=result,
        subtests=[Subtest(name=part, result=one, reason=None) for part, one in (subtests or {}).items()],
        reason=None if result == "pass" else f"{name} {result}",
        changed=None,
        seconds=None if result == "skipped" else 1.0,
        output_tail=None,
    )


def result_of(
    variant: str, *tests: TestDocument, reports: list[str] | None = None, fingerprint: str = ""
) -> SelftestsDocument:
    manifest = factories.common(
        "selftests",
        emulated=True,
        kernel_variant=variant,
        kernel_release="6.1.9",
        tree="tree",
        fingerprint=fingerprint,
        console_reports={"receiver1": reports or []},
    )
    return documents.judge(SelftestsManifest.model_validate(manifest), list(tests))


def stored(document: SelftestsDocument) -> SelftestsDocument:
    """Keep a result as a run of its own."""
    run_of_it = Run.create("virtual", SELFTESTS)
    fields = {name: getattr(document, name) for name in SelftestsManifest.model_fields}
    run_of_it.write_manifest(SelftestsManifest(**{**fields, "run_id": run_of_it.id}))
    for test in document.tests:
        run_of_it.append(test)
    return run_of_it.document()


def shown(draw: Callable[[Console], None]) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    draw(console)
    return console.export_text()


def test_exit_codes_of_one_kernel() -> None:
    assert result_of("stock", made("a"), made("b", "skipped")).exit_code == 0
    assert result_of("stock", made("a"), made("b", "fail")).exit_code == 1
    assert result_of("stock", made("a"), reports=["[1.0] BUG: no"]).exit_code == 1
    assert result_of("stock", made("b", "skipped")).exit_code == 4


def test_nothing_moved() -> None:
    both = [made("a", subtests={"x": "pass"}), made("b", "fail"), made("c", "skipped")]
    diff = documents.diff(result_of("stock", *both), result_of("full", *both))
    assert (diff.moved, diff.compared, diff.exit_code) == ([], 2, 0)
    text = shown(lambda console: show.show_diff(console, diff))
    assert "fails on both: b: b fail" in text
    assert "2 tests ran on both kernels, 0 changed" in text


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        (made("a"), made("a", "fail"), 1),
        (made("a"), made("a", "skipped"), 1),
        (made("a", "skipped"), made("a", "fail"), 1),
        (made("a", "fail"), made("a"), 0),
        (made("a", "skipped"), made("a"), 0),
    ],
)
def test_a_test_moved(before: TestDocument, after: TestDocument, code: int) -> None:
    diff = documents.diff(result_of("stock", made("z"), before), result_of("full", made("z"), after))
    assert [(one.test, one.subtest, one.before, one.after) for one in diff.moved] == [
        ("a", None, before.result, after.result)
    ]
    assert diff.exit_code == code
    text = shown(lambda console: show.show_diff(console, diff))
    assert "changes from stock to full" in text


def test_a_part_moved_or_went_missing() -> None:
    one, other = made("a", "fail", {"x": "pass", "y": "pass", "w": "fail"}), made("a", "fail", {"x": "fail"})
    diff = documents.diff(result_of("stock", one), result_of("full", other))
    assert [(moved.subtest, moved.after, moved.worse) for moved in diff.moved] == [
        ("x", "fail", True),
        ("y", None, True),
        ("w", None, False),
    ]
    assert diff.exit_code == 1


def test_nothing_to_compare() -> None:
    none = result_of("stock", made("a", "skipped"))
    assert documents.diff(none, result_of("full", made("a", "skipped"))).exit_code == 4


def test_new_kernel_reports_are_worse() -> None:
    quiet, loud = result_of("stock", made("a")), result_of("full", made("a"), reports=["[1.0] WARNING: no"])
    assert documents.diff(quiet, loud).exit_code == 1
    assert documents.diff(loud, loud).exit_code == 0
    text = shown(lambda console: show.show_diff(console, documents.diff(quiet, loud)))
    assert "full: receiver1: the kernel reported: [1.0] WARNING: no" in text


def test_a_result_in_words() -> None:
    document = result_of("stock", made("a", subtests={"x": "fail", "y": "pass"}), reports=["[1.0] BUG: no"])
    text = shown(lambda console: show.show(console, document))
    assert "2, 1 failed" in text
    assert "receiver1: the kernel reported: [1.0] BUG: no" in text
    assert "lab virtual, emulated, kernel stock (6.1.9), from tree: 1 passed, 0 failed, 0 skipped" in text


def test_kept_until_the_tests_or_the_kernel_change(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = factories.lab()
    assert run.SUITE.latest(lab, "stock") is None
    stored(result_of("stock", made("a")))
    assert run.SUITE.latest(lab, "stock") is None
    fingerprint = documents.fingerprint(lab.kernel_variants["stock"])
    fresh = stored(result_of("stock", made("a"), fingerprint=fingerprint))
    assert run.SUITE.latest(lab, "stock") == fresh
    assert len(list(runs.iterdir())) == 2  # nothing is overwritten
    with monkeypatch.context() as patched:
        patched.setattr(table, "SHARE", 0.5)
        assert run.SUITE.latest(lab, "stock") is None
    variants = {**lab.kernel_variants, "stock": lab.kernel_variants["full"]}
    assert run.SUITE.latest(lab.model_copy(update={"kernel_variants": variants}), "stock") is None


def test_a_lab_without_a_kernel_of_its_own() -> None:
    with pytest.raises(UsageError, match=r"namespaces: runs this machine's own kernel: name a lab"):
        run.carry_out(factories.lab("namespaces"), print)


def test_a_pattern_is_looked_for_in_each_line() -> None:
    wrong = (Wrong("^b", "bad"), Wrong("^a", "worse"))
    assert reading.printed(wrong, ["a", "b1", "b2"]) == ["printed 'b1': bad", "printed 'a': worse"]
