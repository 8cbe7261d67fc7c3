# SPDX-License-Identifier: Apache-2.0
"""The conformance suite with injected tables: verdicts, how test cases end, hosts that go, what moved."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import pkgutil
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests import factories
from tests.pretended_session import session_on
from tests.ssh_server import SshServer

from zclab.base.errors import InvalidError, LabError
from zclab.host import console
from zclab.kernel.identity import Artifact
from zclab.kernel.spec import KernelVariant
from zclab.lab.model import Lab
from zclab.probe import sysctl, tables
from zclab.probe import table as probe_table
from zclab.probe.table import NotHereError, Table, attempt
from zclab.runs import folder
from zclab.runs.folder import Run
from zclab.suites import probe_command
from zclab.suites.conformance import document as documents
from zclab.suites.conformance import run, show
from zclab.suites.conformance.document import (
    CONFORMANCE,
    ConformanceDocument,
    ConformanceManifest,
    RowDocument,
)

INJECTED = Path(__file__).parents[1] / "data" / "conformance"
#: How many test cases each table has: none is lost unseen.
CASES = {"map_each": 95, "zerocopy_receive": 100, "msg_zerocopy": 66}
#: Seconds after which something counts as hung. Nothing depends on its being reached.
LIMIT = 60


@pytest.fixture(autouse=True)
def injected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the injected tables to the probe, here and in what is sent to hosts."""
    real = probe_command.archive()
    for limit in ("CASE_SECONDS", "KILLED_SECONDS"):  # injected tables change them
        monkeypatch.setattr(probe_table, limit, getattr(probe_table, limit))
    held = io.BytesIO(real)
    with zipfile.ZipFile(held, "a") as file:
        for path in sorted(INJECTED.glob("*.py")):
            file.write(path, f"probe/tables/{path.name}")
            name = f"{tables.__name__}.{path.stem}"
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(probe_command, "archive", held.getvalue)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    """A server that is both hosts of the lab."""
    started = SshServer(tmp_path)
    yield started
    started.close()


@pytest.fixture
def lab(server: SshServer, tmp_path: Path, runs: Path) -> Lab:
    """A lab of this machine, on a kernel of no release that there is."""
    config = server.ssh_config.read_text(encoding="utf-8")
    server.ssh_config.write_text(config.replace("Host host1", "Host sender1 receiver1"), encoding="utf-8")
    return factories.lab("namespaces").model_copy(update={"state_dir": tmp_path})


#: What the hosts seem to run, unless a test has another.
KERNELS = dict.fromkeys(("sender1", "receiver1"), ("6.1.90-zclab", "b"))


def carry_out(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    *names: str,
    role: str = "receiver",
    kernels: dict[str, tuple[str, str]] = KERNELS,
    artifact: Artifact | None = None,
    on_progress: Callable[[str], None] = lambda line: None,
) -> ConformanceDocument:
    monkeypatch.setattr(probe_command, "ABIS", dict.fromkeys(names, role))
    return run.carry_out(lab, on_progress, lambda lab: session_on(lab, kernels, artifact))


def by_row(document: ConformanceDocument, family: int = 6) -> dict[str, RowDocument]:
    return {row.row: row for row in document.rows if row.family == family}


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def runs_still(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


# ---------------------------------------------------------------------------------------- one kernel's result


def test_every_kind_of_end(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    document = carry_out(lab, monkeypatch, "inject_outcomes")
    assert document.exit_code == 1
    for family in probe_command.FAMILIES:
        rows = by_row(document, family)
        verdicts = {name: (row.verdict, row.outcome, row.reason) for name, row in rows.items()}
        assert verdicts == {
            "right": ("pass", "as expected", None),
            "wrong": ("fail", f"something else over IPv{family}", None),
            "changed": ("pass", "new", None),
            "not-here": ("skipped", None, "no such thing"),
            "raising": ("fail", "ValueError: what (inject_outcomes.py:40)", None),
            "killed": ("fail", "killed by signal 9", None),
            "hanging": ("fail", "did not end within 1 s", None),
            "printing": ("pass", "as expected", None),
            "peered": ("skipped", None, "no other host"),
            "elsewhere": ("fail", "as expected, but over loopback, not veth", None),
        }
    assert (rows["wrong"].claim_ids, rows["wrong"].document) == (["S2"], "as written")
    assert (rows["wrong"].link, rows["elsewhere"].link) == ("none", "veth")
    assert run.SUITE.latest(lab, None) == document
    assert document.rows == ConformanceDocument.model_validate_json(document.model_dump_json()).rows


@pytest.mark.parametrize(
    ("release", "expected", "since"),
    [("4.18.0", "old", "0"), ("6.1.0", "new", "6.1"), ("6.9", "new", "6.1"), ("6.18.2-x", "newest", "6.10")],
)
def test_what_is_expected_goes_by_the_release(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, release: str, expected: str, since: str
) -> None:
    row = next(one for one in probe_command.table("inject_outcomes").cases if one.name == "changed")
    judged = documents.judged("inject_outcomes", row, 4, release, "new", None)
    assert (judged.expected, judged.since) == (expected, since)
    assert judged.verdict == ("pass" if expected == "new" else "fail")


@pytest.mark.parametrize(
    ("release", "outcome", "deviates"),
    [("4.18", "EINVAL", False), ("6.1", "ok", True), ("6.1", "EINVAL", False), ("6.1", None, False)],
)
def test_a_deviation_is_of_a_row_that_passed(release: str, outcome: str | None, deviates: bool) -> None:
    """Not before the release since which kernels do something else than the document says."""
    row = probe_table.TestCase("a-row", "given", {"0": "EINVAL", "5.1": "ok"}, (), "it fails", str, "none")
    judged = documents.judged("msg_zerocopy", row, 4, release, outcome, None)
    assert judged.deviates is deviates
    document = documents.judge(result("full"), [judged])
    assert ("1 of the passed show what their document does not say" in show.summary(document)) is deviates


@pytest.mark.skipif(os.geteuid() != 0, reason="a process that traces its parent needs root")
def test_a_test_case_that_cannot_be_killed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outcome says so, and what it is in; the test cases after it are tried."""
    monkeypatch.setattr(probe_command, "FAMILIES", (4,))
    rows = by_row(carry_out(lab, monkeypatch, "inject_unkillable"), 4)
    held, after = rows["unkillable"], rows["after"]
    assert (held.verdict, held.reason) == ("fail", None)
    assert re.fullmatch(r"could not be killed within 1 s: t \(tracing stop\)( in \w+)?", str(held.outcome))
    assert (after.verdict, after.outcome) == ("pass", "as expected")


def test_a_row_that_ends_the_probe(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """That row fails, those after it are named and not passed, and the next table is tried."""
    document = carry_out(lab, monkeypatch, "inject_ending", "inject_missing")
    rows = by_row(document, 4)
    assert rows["before"].verdict == "pass"
    assert rows["fatal"].verdict == "fail"
    assert str(rows["fatal"].reason).startswith("the probe ended with status")
    assert rows["after"].verdict == "skipped"
    assert str(rows["after"].reason).startswith("not tested: at fatal: ")
    assert rows["never"].reason == "no released kernel has it"
    assert document.exit_code == 1


def test_a_host_that_is_lost(
    lab: Lab, server: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its row fails with the reason; the tables after it are named and not passed."""
    monkeypatch.setenv("ZCLAB_TEST_MARKS", str(tmp_path))
    monkeypatch.setattr(probe_command, "FAMILIES", (6,))

    def crash() -> None:
        wait_for((tmp_path / "pids").exists)
        server.close()

    crashing = threading.Thread(target=crash)
    crashing.start()
    rows = by_row(carry_out(lab, monkeypatch, "inject_waiting", "inject_missing"))
    crashing.join()
    assert rows["waiting"].verdict == "fail"
    assert "the connection was lost" in str(rows["waiting"].reason)
    assert rows["never"].verdict == "skipped"
    assert "not tested: receiver1" in str(rows["never"].reason)
    assert "cannot connect" in str(rows["never"].reason)


def test_a_table_that_the_kernel_lacks(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    document = carry_out(lab, monkeypatch, "inject_missing")
    assert {row.verdict for row in document.rows} == {"skipped"}
    assert {row.reason for row in document.rows} == {"no released kernel has it"}
    assert document.exit_code == 4


def test_a_sender_has_its_peer_on_the_receiver(
    lab: Lab, server: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over IPv4 the lab's addresses are this machine's here; it has none of IPv6, and that row is skipped."""
    hosts = [host.model_copy(update={"peer_address_ipv4": "127.0.0.1"}) for host in lab.hosts]
    own = [host.model_copy(update={"data_address_ipv4": None}) for host in hosts]
    own = [one.model_copy(update={"data_address_ipv4": "127.0.0.1/8"}) for one in own]
    monkeypatch.setattr(probe_command, "FAMILIES", (4,))
    document = carry_out(lab.model_copy(update={"hosts": own}), monkeypatch, "inject_outcomes", role="sender")
    assert by_row(document, 4)["peered"].verdict == "pass"
    wait_for(lambda: all(child.poll() is not None for child in server._children))


def test_hosts_with_different_kernels(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = {"sender1": ("6.1.90", "b"), "receiver1": ("6.1.90", "another")}
    with pytest.raises(InvalidError, match=r"^receiver1: runs 6\.1\.90 \(build id another\), not .* \(b\)"):
        carry_out(lab, monkeypatch, "inject_outcomes", kernels=kernels)


def test_another_kernel_than_the_recorded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = Artifact(variant="stock", key="k" * 64, release="6.1.90", build_id="c")
    with pytest.raises(InvalidError, match="sender1: runs"):
        carry_out(lab, monkeypatch, "inject_outcomes", artifact=artifact)


def test_a_kernel_report_fails(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    path = console.log_path(lab.state_dir, "receiver1")
    path.parent.mkdir(parents=True)
    path.write_text("[    1.0] BUG: from an earlier run\n", encoding="utf-8")

    def told(line: str) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write("[   99.0] WARNING: CPU: 0 PID: 1 at net/ipv4/tcp.c:1\n")

    document = carry_out(lab, monkeypatch, "inject_missing", on_progress=told)
    assert document.console_reports == {
        "receiver1": ["[   99.0] WARNING: CPU: 0 PID: 1 at net/ipv4/tcp.c:1"] * 2
    }
    assert document.exit_code == 1


def test_what_was_found_before_an_interruption_is_kept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no result of the kernel: shown, it is invalid, and --diff does not take it."""

    def interrupt(line: str) -> None:
        if "IPv6" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(lab, monkeypatch, "inject_missing", on_progress=interrupt)
    (directory,) = folder.directories()
    left = Run(directory, CONFORMANCE)
    # A table's rows are kept before its line is printed.
    assert (left.manifest().finished_at, left.manifest().verdict, len(left.records())) == (None, None, 2)
    assert (left.document().verdict, left.document().exit_code) == ("invalid", 4)
    assert run.SUITE.latest(lab, None) is None


def test_a_host_without_python(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_command, "rows_command", lambda *_: "echo 'python3: not found' >&2; exit 127")
    with pytest.raises(LabError, match=r"^receiver1: the probe did not start: .*python3: not found"):
        carry_out(lab, monkeypatch, "inject_outcomes")


# ------------------------------------------------------------------------------------------------ the probe


def start(command: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(probe_command.handed_over())
    process.stdin.flush()
    return process


@pytest.mark.parametrize("how", ["stdin", "SIGTERM", "SIGHUP"])
def test_the_end_of_the_channel_ends_the_row_and_puts_back_what_was_set(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZCLAB_TEST_MARKS", str(tmp_path))
    process = start(probe_command.rows_command("inject_waiting", 6, None).removeprefix("exec "))
    wait_for((tmp_path / "pids").exists)
    assert (tmp_path / "setting").read_text(encoding="ascii") == "other"
    if how == "stdin":
        assert process.stdin is not None
        process.stdin.close()
    else:
        process.send_signal(getattr(signal, how))
    process.wait(LIMIT)
    assert (tmp_path / "setting").read_text(encoding="ascii") == "as before"
    pids = [int(word) for word in (tmp_path / "pids").read_text(encoding="ascii").split()]
    wait_for(lambda: not any(map(runs_still, pids)))


def test_a_row_ends_with_its_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when nothing is left to end it."""
    monkeypatch.setenv("ZCLAB_TEST_MARKS", str(tmp_path))
    process = start(probe_command.rows_command("inject_waiting", 6, None).removeprefix("exec "))
    wait_for((tmp_path / "pids").exists)
    process.kill()
    process.wait(LIMIT)
    row, other = [int(word) for word in (tmp_path / "pids").read_text(encoding="ascii").split()]
    try:
        wait_for(lambda: not runs_still(row))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(other, signal.SIGKILL)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_sink_says_what_came_and_ends_with_its_channel(address: str) -> None:
    process = start(probe_command.sink_command(address, address, "lo").removeprefix("exec "))
    assert process.stderr is not None and process.stdin is not None
    port = int(process.stderr.readline().split()[1])
    sent = os.urandom(300_000)
    with socket.create_connection((address, port)) as connection, connection.makefile() as answers:
        assert answers.readline() == "ready\n"
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        count, digest, received = answers.readline().split()
        assert (count, digest) == ("300000", hashlib.sha256(sent).hexdigest())
        assert int(received) >= 300_000
    with socket.create_connection((address, port)) as connection:
        process.stdin.close()
        process.wait(LIMIT)
        assert connection.recv(7) in (b"", b"ready\n")
        assert connection.recv(1) == b""


def test_the_sink_takes_nothing_from_strangers() -> None:
    process = start(probe_command.sink_command("127.0.0.1", "127.0.0.2", "lo").removeprefix("exec "))
    assert process.stderr is not None and process.stdin is not None
    port = int(process.stderr.readline().split()[1])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        assert connection.recv(1) == b""
    process.stdin.close()
    process.wait(LIMIT)


def test_the_command_by_hand() -> None:
    """A developer tries a table on this machine; the exit code says whether a row failed."""
    for arguments, status, wanted in (
        (["--row", "right"], 0, "pass    right IPv4: as expected\npass    right IPv6: as expected\n"),
        (["--row", "not-here", "--family", "4"], 0, "skipped not-here IPv4: no such thing\n"),
        (
            ["--row", "wrong", "--family", "6"],
            1,
            "fail    wrong IPv6: something else over IPv6\n        expected: as expected\n",
        ),
    ):
        loader = shlex.split(probe_command.rows_command("x", 4, None))[1:6]
        process = subprocess.run(
            [*loader[:5], "inject_outcomes", *arguments],
            input=probe_command.handed_over(),
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
        assert (process.returncode, process.stdout.decode()) == (status, wanted), process.stderr


def test_two_rows_of_one_name_are_refused() -> None:
    case = probe_table.TestCase("a-case", "a", "b", (), None, lambda bench: "")
    with pytest.raises(ValueError, match="x: two test cases are called a-case"):
        Table("x", [case, case])


def test_the_probe_needs_nothing_but_the_standard_library() -> None:
    with zipfile.ZipFile(io.BytesIO(probe_command.archive())) as file:
        sources = {name: file.read(name).decode() for name in file.namelist()}
    assert "probe/sink.py" in sources
    for name, text in sources.items():
        for line in text.splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]) and len(words) > 1:
                top = words[1].split(".")[0].rstrip(",")
                assert top == "" or top in sys.stdlib_module_names or top == "__future__", (name, line)


@pytest.mark.parametrize("before", ["0", "1"])
def test_what_mmap_does_is_set_and_put_back(
    before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = tmp_path / "consume"
    monkeypatch.setattr(sysctl, "CONSUME", setting)
    with pytest.raises(NotHereError, match="as on no released one"), sysctl.consuming():
        raise AssertionError
    with sysctl.standing():
        pass
    assert not setting.exists()
    setting.write_text(before, encoding="ascii")
    for change, value in ((sysctl.consuming, "1"), (sysctl.standing, "0")):
        with contextlib.suppress(ValueError), change():
            assert setting.read_text(encoding="ascii") == value
            raise ValueError
        assert setting.read_text(encoding="ascii") == before


# ---------------------------------------------------------------------------------------- between two kernels


def result(kernel: str, /, fingerprint: str = "m", **outcomes: str | None) -> ConformanceDocument:
    """Return a result with one row of each interface; a null outcome was skipped."""
    rows = []
    for abi, outcome in {"map_each": None, "zerocopy_receive": "x", "msg_zerocopy": "x", **outcomes}.items():
        row = probe_table.TestCase("a-row", "given", outcome or "x", ("S1",), None, lambda bench: "", "none")
        reason = None if outcome else "why"
        rows += [
            documents.judged(abi, row, family, "6.1", outcome, reason) for family in probe_command.FAMILIES
        ]
    manifest = factories.common("conformance", kernel_variant=kernel, fingerprint=fingerprint)
    return documents.judge(ConformanceManifest.model_validate(manifest), rows)


def stored(document: ConformanceDocument) -> ConformanceDocument:
    """Keep a result as a run of its own."""
    run_of_it = Run.create("virtual", CONFORMANCE)
    fields = {name: getattr(document, name) for name in ConformanceManifest.model_fields}
    run_of_it.write_manifest(ConformanceManifest(**{**fields, "run_id": run_of_it.id}))
    for row in document.rows:
        run_of_it.append(row)
    return run_of_it.document()


def shown(show_it: Callable[[Console], None]) -> str:
    held = io.StringIO()
    show_it(Console(file=held, width=180))
    return held.getvalue()


def test_a_series_moves_its_own_rows_only() -> None:
    diff = documents.diff(result("stock"), result("full", map_each="maps"))
    assert (diff.exit_code, len(diff.moved)) == (0, 2)
    text = shown(lambda console: show.show_diff(console, diff))
    assert "unchanged: map_once (zerocopy_receive) (2 rows on both) and msg_zerocopy (2 rows on both)" in text
    assert "(why)" in text and "maps" in text and "4, 6" in text


@pytest.mark.parametrize("abi", documents.FIXED)
def test_a_fixed_row_that_moved_is_a_failure(abi: str) -> None:
    diff = documents.diff(result("stock"), result("full", **{abi: "other"}))
    assert (diff.exit_code, len(diff.moved_but_fixed)) == (1, 2)
    text = shown(lambda console: show.show_diff(console, diff))
    assert "changed, but should not: 2 rows" in text
    assert "did not move" not in text


@pytest.mark.parametrize("abi", documents.FIXED)
def test_rows_that_were_not_tried_show_nothing(abi: str) -> None:
    not_tried: dict[str, Any] = {abi: None}
    diff = documents.diff(result("stock", **not_tried), result("full", **not_tried))
    assert diff.exit_code == 4
    text = shown(lambda console: show.show_diff(console, diff))
    assert f"{abi}: no row was tested on both kernels" in text
    assert "did not move" not in text


def test_a_row_that_failed_on_both_is_not_passed_over() -> None:
    failing = result("stock")
    failing = documents.judge(failing, [row.model_copy(update={"verdict": "fail"}) for row in failing.rows])
    assert documents.diff(failing, failing).exit_code == 1


def test_what_is_shown_of_a_kernel(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    document = carry_out(lab, monkeypatch, "inject_outcomes", "inject_missing")
    text = shown(lambda console: show.show(console, document))
    assert "inject_missing: all 2 rows skipped: no released kernel has it" in text
    lines = {line.split("│")[1].strip(): line for line in text.splitlines() if line.count("│") > 5}
    assert "4, 6" in lines["right"] and "S1" in lines["right"] and "pass" in lines["right"]
    assert "fail" in lines["hanging"] and "did not end within 1 s" in lines["hanging"]
    assert "skipped" in lines["not-here"] and "(no such thing)" in lines["not-here"]
    assert "as expected (since the interface exists)" in text
    assert "the document: as written" in text
    assert "new (since 6.1)" in lines["changed"]
    assert "veth" in lines["elsewhere"]
    assert "6 passed, 10 failed, 6 skipped" in text


# --------------------------------------------------------------------------------------------------- keeping


def test_a_result_is_kept_until_something_changes(
    runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    patch = tmp_path / "a.patch"
    patch.write_text("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", encoding="utf-8")
    source = {"kind": "debian", "package": "linux-source-6.1"}
    variant = KernelVariant.model_validate({"source": source, "patches": [{"file": str(patch)}]})
    lab = factories.lab().model_copy(update={"kernel_variants": {"mine": variant}})
    assert run.SUITE.latest(lab, "mine") is None
    document = stored(result("mine", documents.fingerprint(variant)))
    assert run.SUITE.latest(lab, "mine") == document
    text = patch.read_text(encoding="utf-8")
    patch.write_text(text.replace("+b", "+c"), encoding="utf-8")
    assert run.SUITE.latest(lab, "mine") is None
    patch.write_text(text, encoding="utf-8")
    assert run.SUITE.latest(lab, "mine") == document
    newer = stored(result("mine", documents.fingerprint(variant)))
    assert run.SUITE.latest(lab, "mine") == newer != document
    for damage in ('{"schema_version": 99}', "{", ""):
        (runs / newer.run_id / "manifest.json").write_text(damage, encoding="utf-8")
        assert run.SUITE.latest(lab, "mine") == document
    unfinished = result("mine", documents.fingerprint(variant)).model_copy(update={"finished_at": None})
    stored(unfinished)
    assert run.SUITE.latest(lab, "mine") == document
    monkeypatch.setattr(probe_command, "archive", lambda: b"other rows")
    assert run.SUITE.latest(lab, "mine") is None


# ------------------------------------------------------------------------------------------- the real tables


@pytest.mark.parametrize("abi", probe_command.ABIS)
def test_rows_say_what_they_do(abi: str) -> None:
    table = probe_command.table(abi)
    assert table.abi == abi
    assert table.cases
    for row in table.cases:
        assert row.setup and row.attempt.__doc__, row.name
        assert row.rule("6.1.90")[1] and row.rule("6.18")[1]
        assert row.document is None or row.document != row.rule("6.1.90")[1]


@pytest.mark.parametrize("abi", probe_command.ABIS)
def test_no_subject_of_a_table_is_left_out(abi: str) -> None:
    """Each module of the table's package is in the table, in one piece and once."""
    table = probe_command.table(abi)
    package = importlib.import_module(f"{tables.__name__}.{abi}")
    subjects = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    ]
    subjects.sort(key=lambda subject: table.cases.index(subject.CASES[0]))
    assert [case for subject in subjects for case in subject.CASES] == table.cases
    assert len(table.cases) == CASES[abi]


@pytest.mark.skipif(os.geteuid() != 0, reason="the hosts' rows are tried as root")
def test_a_wrong_expectation_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of a real table, with another outcome expected, fails."""
    row = next(one for one in probe_command.table("zerocopy_receive").cases if one.name == "whole-pages")
    outcome, reason = attempt(row, 6).values()
    right = documents.judged("zerocopy_receive", row, 6, os.uname().release, outcome, reason)
    assert right.verdict == "pass", right
    planted = probe_table.TestCase(
        row.name, row.setup, "mapped 4096, hint 0, as sent, 0 queued", row.claims, None, row.attempt
    )
    assert documents.judged("zerocopy_receive", planted, 6, "6.1", outcome, reason).verdict == "fail"
