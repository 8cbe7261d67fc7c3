# SPDX-License-Identifier: Apache-2.0
"""The engine, with hosts that only pretend: what it writes, when it refuses, how it goes on."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from filelock import FileLock
from tests import factories

from zclab.analysis import verdict as judge
from zclab.analysis.document import MeasurementDocument
from zclab.analysis.verdict import RUN, MeasuringRun
from zclab.backends.virtual import lab as hosts
from zclab.backends.virtual.lab import HostStatus
from zclab.base.errors import LabError, UsageError
from zclab.deploy import state as deploy_state
from zclab.host import console, placement
from zclab.host.snapshot import Snapshot
from zclab.host.ssh import Completed, RemoteError
from zclab.lab.model import Host, Lab
from zclab.measure import channels
from zclab.measure import engine as measure
from zclab.measure.ends import end_of
from zclab.measure.engine import Reporter
from zclab.measure.session import Ends, Session
from zclab.plan import schedule
from zclab.plan.plan import Plan
from zclab.runs import chain, query
from zclab.runs.folder import Run
from zclab.traffic import command as commands

PLAN = factories.plan(repeats=2, seed=5)
MEMBERS = ["sender1", "receiver1"]


class Told:
    """A reporter that keeps what it was told."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.documents: list[MeasurementDocument] = []
        self.ended = False

    def started(self, run: MeasuringRun, plan: Plan, overhead_seconds: float, boot_seconds: float) -> None:
        self.seconds = schedule.expected_seconds(plan, overhead_seconds, boot_seconds)

    def measured(self, run: MeasuringRun, document: MeasurementDocument) -> None:
        self.documents.append(document)

    def finished(self, run: MeasuringRun) -> None:
        self.ended = True


class Pretended:
    """Two hosts and their lab; a test changes what they say. Transfers go well unless told otherwise."""

    def __init__(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lab = lab
        self.state = {host.name: self._snapshot(host) for host in lab.hosts}
        self.made: list[str] = []
        self.placements: Iterator[str | None] = iter(())

        class Pretending(_Session):
            pretended = self

        self.session = Pretending
        self.fails_at: dict[int, BaseException] = {}
        self.during: Callable[[int], None] = lambda number: None
        for host in lab.hosts:
            path = console.log_path(lab.state_dir, host.name)
            path.parent.mkdir(parents=True)
            path.write_text("[    1.000000] WARNING: long before\n", encoding="utf-8")
        self.record_kernel()
        self.status = [HostStatus(host.name, True, 1, 2201, "tcg", 1.0) for host in lab.hosts]
        monkeypatch.setattr(hosts, "status", lambda state_dir: self.status)

    def _snapshot(self, host: Host) -> Snapshot:
        return Snapshot.model_validate(factories.snapshot(host.name, **factories.as_declared(host, self.lab)))

    def before(self) -> dict[str, Snapshot]:
        """Return what the hosts say before a measurement."""
        return dict(self.state)

    def after(self) -> dict[str, Snapshot]:
        """Return what they say after it, and that their interfaces carried it."""
        grown = {host.name: factories.snapshot_after(host.name) for host in self.lab.hosts}
        return {
            name: state.model_copy(
                update={key: grown[name][key] for key in ("link_counters", "changes", "changes_lost")}
            )
            for name, state in self.state.items()
        }

    def record_kernel(self, **changes: Any) -> None:
        """Write what `zclab up` leaves of the kernel that it booted."""
        artifact = factories.ARTIFACT.model_dump() | changes
        recorded = {
            "artifact": artifact,
            "definition": self.lab.kernel_variants["stock"].model_dump(mode="json"),
        }
        (self.lab.state_dir / "kernel.json").write_text(json.dumps(recorded), encoding="utf-8")

    def execute(
        self,
        plan: Plan,
        reporter: Reporter,
        resume: MeasuringRun | None = None,
        boot: channels.BootHosts | None = None,
    ) -> MeasuringRun:
        """Carry out a plan on the lab."""
        opened = channels.opener(self.session.open_declared, boot)
        return measure.execute(self.lab, plan, reporter, resume, open_driver=opened)

    def transfer(self, receive: str, send: str) -> Ends:
        """Make a transfer as its command lines have it."""
        self.made.append(receive)
        if failure := self.fails_at.pop(len(self.made), None):
            raise failure
        self.during(len(self.made))
        ends = [
            factories.traffic_document(end, str(options(command)["--mode"])) | {"addresses": addresses}
            for end, command, addresses in (
                ("receive", receive, _addresses(receive, 5000, 40000)),
                ("send", send, _addresses(send, 40000, 5000)),
            )
        ]
        received, sent = (Completed(0, json.dumps(document), "") for document in ends)
        return Ends(received, sent, 0.1)

    def say(self, host: str, text: str) -> None:
        """Let a host's kernel print something."""
        with console.log_path(self.lab.state_dir, host).open("a", encoding="utf-8") as file:
            file.write(text)


class _Session(Session):
    """A session whose hosts pretend: what they say of themselves, and what a transfer leaves."""

    pretended: ClassVar[Pretended]

    @classmethod
    def connect(cls, lab: Lab, hosts: Sequence[Host]) -> AbstractContextManager[dict[str, Any]]:
        assert [host.name for host in hosts] == MEMBERS
        return contextlib.nullcontext({name: _Silent(cls.pretended) for name in MEMBERS})

    @staticmethod
    def built_programs() -> dict[str, str]:
        return dict(factories.PROGRAMS)

    def snapshot(self) -> dict[str, Snapshot]:
        return dict(self.pretended.state)

    @contextlib.contextmanager
    def watching(self) -> Iterator[Any]:
        yield self.pretended

    def transfer(self, receive: str, send: Callable[[int], str], *_: Any) -> Ends:
        return self.pretended.transfer(receive, send(5000))


class _Silent:
    """A connection over which nothing of interest is said."""

    def __init__(self, pretended: Pretended) -> None:
        self._pretended = pretended

    def run(self, command: str) -> Completed:
        assert command == placement.command(self._pretended.lab.pair().sender)
        if (found := next(self._pretended.placements)) is None:
            raise RemoteError("sender1: is gone")
        return Completed(0, found, "")

    def output(self, command: str) -> str:
        return "driver:\n" if "echo driver:" in command else "zclab-traffic 0.1.0"

    def close(self) -> None:
        pass


@pytest.fixture
def pretended(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Pretended:
    lab = factories.lab().with_kernel("stock")
    hosts = [host.model_copy(update={"nic_model": None}) for host in lab.hosts]
    return Pretended(lab.model_copy(update={"state_dir": tmp_path / "state", "hosts": hosts}), monkeypatch)


# ---------------------------------------------------------------------------------------------------- a run


def test_a_run_is_written_and_judged(pretended: Pretended) -> None:
    told = Told()
    run = pretended.execute(PLAN, told)
    assert len(told.documents) == 4
    assert told.seconds > 4 * 3
    assert told.ended
    manifest = run.manifest()
    assert manifest.finished_at is not None
    assert manifest.emulated
    assert manifest.run_id == run.id
    assert manifest.console_reports == {"sender1": [], "receiver1": []}
    assert [one.planned.id for one in run.records()] == [one.id for one in schedule.measurements(PLAN)]
    assert judge.judge(manifest, run.records()).verdict == "pass"


def test_what_a_console_says_meanwhile_is_kept(pretended: Pretended) -> None:
    def during(number: int) -> None:
        if number == 2:
            pretended.say("receiver1", "[   99.000000] WARNING: CPU: 0 PID: 1 at x\n")

    pretended.during = during
    run = pretended.execute(PLAN, Told())
    document = judge.judge(run.manifest(), run.records())
    assert document.verdict == "fail"
    assert document.console_reports["receiver1"] == ["[   99.000000] WARNING: CPU: 0 PID: 1 at x"]
    kept = (run.directory / "console" / "receiver1.log").read_text(encoding="utf-8")
    assert "long before" not in kept and "PID: 1" in kept


def test_a_lost_host_is_kept_in_the_record_and_the_plan_goes_on(pretended: Pretended) -> None:
    pretended.fails_at = {2: RemoteError("receiver1: the connection was lost")}
    run = pretended.execute(PLAN.select(repeat_invalid={"per_measurement": 0}), Told())
    records = run.records()
    assert [one.problem for one in records] == [None, "receiver1: the connection was lost", None, None]
    assert set(records[1].before) == set(MEMBERS)
    assert judge.judge(run.manifest(), records).verdict == "invalid"


def test_an_invalid_measurement_is_made_again_and_kept(pretended: Pretended) -> None:
    pretended.fails_at = {2: RemoteError("receiver1: the connection was lost")}
    run = pretended.execute(PLAN, Told())
    records = run.records()
    ids = [one.planned.id for one in records]
    assert ids[2] == f"{ids[1]}-again1" and len(ids) == 5
    assert [one.planned.attempt for one in records] == [0, 0, 1, 0, 0]
    document = judge.judge(run.manifest(), records)
    assert (document.verdict, document.remeasured, document.problems) == ("pass", 1, [])
    assert not document.measurements[1].valid


def test_a_reason_that_lasts_ends_the_attempts(pretended: Pretended) -> None:
    """The same failure twice, with other figures in it: not a third time, and the run is invalid."""
    pretended.fails_at = {
        number: RemoteError(f"receiver1: no answer within {number} s") for number in range(2, 9)
    }
    run = pretended.execute(PLAN, Told())
    assert [one.planned.attempt for one in run.records()] == [0, 0, 1, 0, 1, 0, 1]
    assert judge.judge(run.manifest(), run.records()).verdict == "invalid"


def test_a_run_makes_only_so_many_again(pretended: Pretended) -> None:
    pretended.fails_at = {number: RemoteError(f"{'x' * number}: lost") for number in range(1, 30)}
    plan = PLAN.select(repeat_invalid={"per_measurement": 2, "per_run": 3})
    run = pretended.execute(plan, Told())
    assert [one.planned.attempt for one in run.records()] == [0, 1, 2, 0, 1, 0, 0]


def test_a_run_that_was_interrupted_before_an_attempt_goes_on_with_it(pretended: Pretended) -> None:
    pretended.fails_at = {2: RemoteError("receiver1: lost"), 3: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        pretended.execute(PLAN, Told())
    run = Run(query.find("latest", pytest.fail).directory, RUN)
    assert judge.judge(run.manifest(), run.records()).verdict == "invalid"
    pretended.execute(PLAN, Told(), run)
    assert [one.planned.attempt for one in run.records()] == [0, 0, 1, 0, 0]
    assert judge.judge(run.manifest(), run.records()).verdict == "pass"


def test_unfit_hosts_are_not_measured(pretended: Pretended) -> None:
    state = pretended.state["receiver1"]
    pretended.state["receiver1"] = state.model_copy(update={"mtu": 1500})
    run = pretended.execute(PLAN, Told())
    assert pretended.made == []
    document = judge.judge(run.manifest(), run.records())
    assert document.verdict == "invalid"
    assert "not made: receiver1: MTU is 1500" in document.measurements[0].invalid_reasons[0]


REPLACED = [
    ({}, "{host}: /usr/local/bin/zclab-traffic cannot be read: run `zclab up`"),
    (None, "{host}: /usr/local/bin/zclab-traffic cannot be read: run `zclab up`"),
    (
        {"/usr/local/bin/zclab-traffic": "cd" * 32},
        "{host}: /usr/local/bin/zclab-traffic is not the program that was built (sha256 cdcdcdcdcdcd, "
        "not abababababab): run `zclab up`",
    ),
]


@pytest.mark.parametrize("host", MEMBERS)
@pytest.mark.parametrize(("found", "reason"), REPLACED)
def test_another_program_is_not_measured(
    found: dict[str, str] | None, reason: str, host: str, pretended: Pretended
) -> None:
    pretended.state[host] = pretended.state[host].model_copy(update={"programs": found})
    run = pretended.execute(PLAN, Told())
    assert pretended.made == []
    document = run.document()
    assert document.verdict == "invalid"
    assert document.measurements[0].invalid_reasons[0] == f"not made: {reason.format(host=host)}"


@pytest.mark.parametrize("host", MEMBERS)
def test_a_program_that_is_replaced_during_a_measurement_makes_it_invalid(
    host: str, pretended: Pretended
) -> None:
    whole = pretended.state[host]

    def replace(number: int) -> None:
        changed = {"/usr/local/bin/zclab-traffic": "cd" * 32}
        pretended.state[host] = whole.model_copy(update={"programs": changed} if number == 2 else {})

    pretended.during = replace
    run = pretended.execute(PLAN, Told())
    reasons = [one.invalid_reasons for one in run.document().measurements]
    assert [REPLACED[2][1].format(host=host)] == reasons[1] and reasons[0] == []
    assert run.manifest().programs == factories.PROGRAMS


def test_a_tool_that_was_not_built_is_not_measured(pretended: Pretended) -> None:
    class Unbuilt(pretended.session):  # type: ignore[name-defined, misc]
        @staticmethod
        def built_programs() -> dict[str, str]:
            return {}

    pretended.session = Unbuilt
    document = pretended.execute(PLAN, Told()).document()
    assert pretended.made == []
    assert (
        "the traffic tool of this source was not built: run `zclab up`"
        in document.measurements[0].invalid_reasons[0]
    )


# --------------------------------------------------------------------------------------------------- resume


def interrupted(pretended: Pretended, at: int = 3) -> MeasuringRun:
    """Return a run that Ctrl-C ended in its third measurement."""
    pretended.fails_at = {at: KeyboardInterrupt()}
    told = Told()
    with pytest.raises(KeyboardInterrupt):
        pretended.execute(PLAN, told)
    assert told.ended
    return Run(query.find("latest", pytest.fail).directory, RUN)


def test_an_interrupted_run_is_resumed(pretended: Pretended) -> None:
    run = interrupted(pretended)
    assert len(run.records()) == 2
    assert judge.judge(run.manifest(), run.records()).verdict == "invalid"
    told = Told()
    resumed = pretended.execute(factories.plan(repeats=9), told, run)
    assert resumed.directory == run.directory
    assert len(told.documents) == 2
    assert [one.planned.order for one in run.records()] == [0, 1, 2, 3]
    assert judge.judge(run.manifest(), run.records()).verdict == "pass"


def killed(pretended: Pretended) -> MeasuringRun:
    """Return a run that was killed: without what its end would have written."""
    run = interrupted(pretended)
    journal = run.directory / chain.JOURNAL
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    run.manifest_path.write_text(json.dumps(chain.manifest(run.directory)), encoding="utf-8")
    return run


def test_a_line_that_was_cut_off_is_measured_again(pretended: Pretended) -> None:
    run = killed(pretended)
    content = run.records_path.read_bytes()
    run.records_path.write_bytes(content[:-50])
    pretended.execute(PLAN, Told(), run)
    assert [one.planned.order for one in run.records()] == [0, 1, 2, 3]


def test_reports_before_an_interruption_are_not_forgotten(pretended: Pretended) -> None:
    """Killed, the engine could not keep what the consoles had said by then."""
    run = interrupted(pretended)
    manifest = run.manifest()
    run.write_manifest(manifest.model_copy(update={"console_reports": {}}))
    pretended.say("receiver1", "[   99.000000] BUG: in the meantime\n")
    pretended.execute(PLAN, Told(), run)
    assert run.manifest().console_reports["receiver1"] == ["[   99.000000] BUG: in the meantime"]


def test_a_whole_run_is_not_resumed(pretended: Pretended) -> None:
    run = pretended.execute(PLAN, Told())
    with pytest.raises(UsageError, match="already whole"):
        pretended.execute(PLAN, Told(), run)


def test_a_run_of_another_lab_is_not_resumed(pretended: Pretended) -> None:
    run = interrupted(pretended)
    run.write_manifest(run.manifest().model_copy(update={"lab": "other"}))
    with pytest.raises(UsageError, match="is a run of lab other, not of virtual"):
        pretended.execute(PLAN, Told(), run)


def test_a_run_on_another_kernel_is_not_resumed(pretended: Pretended) -> None:
    run = interrupted(pretended)
    pretended.record_kernel(key="ffff", release="6.1.192-zclab-ffff", build_id="ff" * 20)
    with pytest.raises(UsageError, match=r"the lab is now set to 6\.1\.192-zclab-ffff"):
        pretended.execute(PLAN, Told(), run)


def test_a_run_is_not_resumed_with_another_build_of_the_tool(pretended: Pretended) -> None:
    run = interrupted(pretended)
    run.update(programs={"/usr/local/bin/zclab-traffic": "cd" * 32})
    with pytest.raises(UsageError, match="measured with another build of the traffic tool: start a new run"):
        pretended.execute(PLAN, Told(), run)


def test_a_run_is_not_resumed_after_a_reboot(pretended: Pretended) -> None:
    run = interrupted(pretended)
    state = pretended.state["sender1"]
    pretended.state["sender1"] = state.model_copy(update={"boot_id": "another"})
    with pytest.raises(UsageError, match="a host rebooted since"):
        pretended.execute(PLAN, Told(), run)
    assert len(run.records()) == 2


# ----------------------------------------------------------------------------------------- what stops a run


def test_a_lab_that_was_never_up(pretended: Pretended) -> None:
    (pretended.lab.state_dir / "kernel.json").unlink()
    with pytest.raises(LabError, match="booted no kernel yet: run `zclab up`"):
        pretended.execute(PLAN, Told())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"artifact": 1, "definition": 2}'])
def test_a_damaged_record_of_the_kernel(pretended: Pretended, text: str) -> None:
    (pretended.lab.state_dir / "kernel.json").write_text(text, encoding="utf-8")
    with pytest.raises(LabError) as caught:
        deploy_state.deployed_kernel(pretended.lab)
    assert "run `zclab up`" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_another_variant_than_the_inventory_names(pretended: Pretended) -> None:
    pretended.record_kernel(variant="mine")
    with pytest.raises(LabError, match="set up with another kernel than 'stock'"):
        pretended.execute(PLAN, Told())


@pytest.mark.parametrize("status", [[], None])
def test_a_virtual_host_that_does_not_run(pretended: Pretended, status: list[HostStatus] | None) -> None:
    pretended.status = [] if status == [] else pretended.status[:1]
    with pytest.raises(LabError, match="does not run"):
        pretended.execute(PLAN, Told())


@pytest.mark.parametrize(
    ("accelerators", "emulated"), [(("kvm", "kvm"), False), (("kvm", "tcg"), True), (("tcg", "tcg"), True)]
)
def test_one_emulated_host_makes_a_run_emulated(
    pretended: Pretended, accelerators: tuple[str, str], emulated: bool
) -> None:
    pretended.status = [
        HostStatus(name, True, 1, 2201, accelerator, 1.0)
        for name, accelerator in zip(MEMBERS, accelerators, strict=True)
    ]
    assert pretended.execute(PLAN, Told()).manifest().emulated is emulated


def _hold(path: str, held: Any, done: Any) -> None:
    with FileLock(path):
        held.set()
        done.wait(60)


def test_a_lab_is_measured_by_one_run_at_a_time(pretended: Pretended) -> None:
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(pretended.lab.state_dir / "run.lock"), held, done))
    other.start()
    try:
        assert held.wait(60)
        with pytest.raises(LabError, match="another run is using this lab"):
            pretended.execute(PLAN, Told())
    finally:
        done.set()
        other.join()
    assert pretended.execute(PLAN, Told()).manifest().finished_at


# -------------------------------------------------------------------------------------------- command lines


def _addresses(command: str, own_port: int, port: int) -> dict[str, Any]:
    given = options(command)
    ends = {"local": given["--bind"], "local_port": own_port, "peer": given["--peer"], "peer_port": port}
    return ends | {"ip_version": 6}


def options(command: str) -> dict[str, str | None]:
    """Return the options of a command line, by name."""
    words = shlex.split(command)[2:]
    found: dict[str, str | None] = {}
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            found[word] = None if following.startswith("--") else following
    return found


def test_receivers_command_line(pretended: Pretended) -> None:
    planned = schedule.measurements(factories.plan(pace_gbit_per_s=[0.1]))[1]
    _, receiver = pretended.lab.pair()
    command = commands.receive(pretended.lab, planned, receiver, "0" * 32)
    assert command.startswith("/usr/local/bin/zclab-traffic receive ")
    assert options(command) == {
        "--bind": receiver.ip,
        "--peer": receiver.peer_address,
        "--token": "0" * 32,
        "--mode": "map_once",
        "--chunk-bytes": "524288",
        "--rcvlowat": "524288",
        "--warmup": "1",
        "--seconds": "2",
        "--streams": "1",
        "--watch-stdin": None,
    }


def test_senders_command_line(pretended: Pretended) -> None:
    planned = schedule.measurements(factories.plan(pace_gbit_per_s=[0.1]))[1]
    sender, _ = pretended.lab.pair()
    found = options(commands.send(pretended.lab, planned, sender, 4711, "0" * 32))
    assert found["--port"] == "4711"
    assert (found["--bind"], found["--peer"]) == (sender.ip, sender.peer_address)
    assert (found["--mode"], found["--message-bytes"], found["--pace-gbit"]) == ("copy", "262144", "0.1")
    unpaced = schedule.measurements(factories.plan())[1]
    assert "--pace-gbit" not in options(commands.send(pretended.lab, unpaced, sender, 4711, "0" * 32))


# --------------------------------------------------------------------------------------- what an end leaves


def test_an_end_that_printed_its_document() -> None:
    document = factories.traffic_document("receive", "copy")
    end = end_of(Completed(0, json.dumps(document), "listening 1\n"))
    assert end.document is not None
    assert (end.document.outcome, end.status, end.stderr) == ("complete", 0, "listening 1")


@pytest.mark.parametrize("printed", ["", "{", "{}", "segmentation fault", '{"schema_version": 3}'])
def test_an_end_that_printed_no_document(printed: str) -> None:
    end = end_of(Completed(1, printed, "cannot bind"))
    assert end.document is None
    assert end.status == 1
    assert end.stderr.startswith("cannot bind")
    assert ("printed no valid result" in end.stderr) == bool(printed)


@pytest.mark.parametrize("key", ["completions", "window", "mode", "tcp"])
def test_a_document_that_lacks_a_key_counts_as_none(key: str) -> None:
    document = factories.traffic_document("receive", "copy")
    del document[key]
    assert end_of(Completed(0, json.dumps(document), "")).document is None


# ------------------------------------------------------------------------------------------ kernels as arms


def test_arms_on_two_kernels(pretended: Pretended) -> None:
    """Each boot is compared with its own artifact, and at the end the lab's own kernel runs again."""
    stock = pretended.lab.kernel_variants["stock"]
    lab = pretended.lab.model_copy(update={"kernel_variants": {"stock": stock, "mine": stock}})
    pretended.lab = lab
    booted: list[str] = []

    def boot(which: Lab, variant: str) -> None:
        booted.append(variant)
        key = {"stock": factories.ARTIFACT.key, "mine": "ffff"}[variant]
        release = factories.RELEASE.replace(factories.ARTIFACT.key, key)
        pretended.record_kernel(variant=variant, key=key, release=release)
        for name, state in pretended.state.items():
            changes = {"kernel_release": release, "boot_id": f"{name}-{len(booted)}"}
            pretended.state[name] = state.model_copy(update=changes)

    comparison = factories.comparison(b=("copy", "map_once"))
    comparison["b"]["kernel"] = "mine"
    plan = factories.plan(comparisons=[comparison], boots=2, boot_measurements=2, seed=5)
    run = pretended.execute(plan, Told(), boot=boot)
    arms = "".join(record.planned.arm for record in run.records())
    assert arms in ("aabbbbaa", "bbaaaabb")
    back = [] if arms[-1] == "a" else ["stock"]
    assert booted == [{"a": "stock", "b": "mine"}[arm] for arm in arms[::2]] + back
    document = judge.judge(run.manifest(), run.records())
    assert document.verdict == "pass", [one.invalid_reasons for one in document.measurements]
    assert run.manifest().other_kernels["mine"].artifact_key == "ffff"
    assert {one.n_boots for one in document.comparisons} == {2}
    assert len({record.boots["receiver1"] for record in run.records()}) == 4
    lied = [record.model_copy(update={"boots": {}}) for record in run.records()]
    assert judge.judge(run.manifest(), lied).verdict == "invalid"


def test_a_kernel_that_the_lab_does_not_have(pretended: Pretended) -> None:
    comparison = factories.comparison()
    comparison["b"]["kernel"] = "nosuch"
    plan = factories.plan(comparisons=[comparison])
    with pytest.raises(UsageError, match=r"receive: lab virtual has no kernel 'nosuch': stock"):
        pretended.execute(plan, Told(), boot=lambda lab, variant: None)


def test_an_ip_version_that_the_lab_does_not_have(pretended: Pretended) -> None:
    hosts = [
        host.model_copy(update={"data_address_ipv4": None, "peer_address_ipv4": None})
        for host in pretended.lab.hosts
    ]
    lab = pretended.lab.model_copy(update={"hosts": hosts})
    with pytest.raises(UsageError, match="has no IPv4 data address: declare zclab_data_address_ipv4"):
        measure.execute(lab, factories.plan(ip_versions=[4]), Told(), open_driver=channels.opener())


def test_options_of_every_kind(pretended: Pretended) -> None:
    sender, receiver = (host.model_copy(update={"traffic_cpus": [2, 3]}) for host in pretended.lab.pair())
    plan = factories.plan(streams=[4], header_bytes=100, baseline=True, integrity_bytes=8192)
    check, *_, last = schedule.measurements(plan)
    found = options(commands.send(pretended.lab, last, sender, 4711, "0" * 32))
    assert (found["--streams"], found["--header-bytes"], found["--cpus"]) == ("4", "100", "2,3")
    assert (found["--baseline"], found["--seconds"]) == ("2", "2")
    found = options(commands.receive(pretended.lab, check, receiver, "0" * 32))
    assert (found["--bytes"], found["--verify"]) == ("8192", None)
    assert not {"--seconds", "--warmup", "--baseline", "--header-bytes"} & set(found)


def test_options_of_a_ping_pong(pretended: Pretended) -> None:
    rpc = {"name": "rpc", "a": "recvmsg", "b": "map_copy_buffer", "request_bytes": 1, "reply_bytes": 2}
    plan = factories.plan(rpc_comparisons=[{**rpc, "metrics": {"rpcs_per_s": []}}], repeats=1)
    planned = schedule.measurements(plan)[-1]
    sender, receiver = pretended.lab.pair()
    serve = commands.receive(pretended.lab, planned, receiver, "0" * 32)
    call = commands.send(pretended.lab, planned, sender, 4711, "0" * 32)
    assert serve.split()[1:2] == ["rpc-serve"]
    assert call.split()[1:2] == ["rpc-call"]
    for command in (serve, call):
        found = options(command)
        assert (found["--request-bytes"], found["--reply-bytes"]) == ("1", "2")
        assert found["--mode"] == planned.receive_mode
        assert "--streams" not in found


# ------------------------------------------------------------------------------ the conditions of a plan

HALT, POLL = "cmdline:idle=halt", "cmdline:idle=poll"
CONDITIONED = Plan.model_validate(
    {**PLAN.model_dump(), "preconditions": {"sender": {"kernel_arguments": ["idle=halt"]}}}
)


@pytest.mark.parametrize(
    ("printed", "met", "found"),
    [
        ([HALT, HALT], True, "idle=halt"),
        ([HALT, POLL], False, "idle=poll"),
        ([POLL, HALT], False, "idle=poll"),
        ([HALT, None], None, None),
        ([None, HALT], None, None),
    ],
    ids=["as published", "changed meanwhile", "changed back", "gone afterwards", "gone before"],
)
def test_conditions_are_read_back_before_and_after(
    printed: list[str | None], met: bool | None, found: str | None, pretended: Pretended
) -> None:
    pretended.placements = iter(printed)
    run = pretended.execute(CONDITIONED, Told())
    assert len(run.manifest().placements["sender1"]) == 2
    (one,) = run.document().preconditions
    assert (one.host, one.what, one.met, one.found) == ("sender1", "idle=halt", met, found)


def test_a_resumed_run_keeps_what_was_read_before(pretended: Pretended) -> None:
    """A condition that did not hold when the run began did not hold for it."""
    pretended.placements = iter([POLL, HALT, HALT])
    pretended.fails_at = {3: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        pretended.execute(CONDITIONED, Told())
    run = Run(query.find("latest", pytest.fail).directory, RUN)
    pretended.execute(CONDITIONED, Told(), run)
    document = run.document()
    assert len(run.manifest().placements["sender1"]) == 3
    (one,) = document.preconditions
    assert (one.met, one.found) == (False, "idle=poll")
    assert document.chain is not None and document.chain.state == "whole"
