# SPDX-License-Identifier: Apache-2.0
"""Runs the kernel's own tests on the hosts of a lab, as they run.

A test runs in namespaces of its own for mounts and processes, and for the network where it can: whatever it
makes there, and whatever it starts, is gone when it has ended, however it ends.
"""

from __future__ import annotations

import re
import shlex
import time

from zclab.analysis import programs as installed
from zclab.base.errors import UsageError
from zclab.base.progress import Progress
from zclab.deploy import state as deploy_state
from zclab.host.ssh import Completed, RemoteError
from zclab.lab.model import Lab
from zclab.measure.session import Opener, Session
from zclab.suites import install, on_kernel
from zclab.suites.crosscheck.programs import TIMED_OUT, Task, tcp_mmap_receive, tcp_mmap_send, tool_failed
from zclab.suites.selftests import build, table
from zclab.suites.selftests import output as reading
from zclab.suites.selftests.document import (
    SELFTESTS,
    SelftestsDocument,
    SelftestsManifest,
    TestDocument,
    diff,
    fingerprint,
)
from zclab.suites.selftests.table import PairTest, Selftest

#: Where the files are on the hosts; playbooks/restore.yml removes it.
DIRECTORY = "/var/lib/zclab/selftests"
#: Seconds that a host may take beyond a test's time. A limit, not an expectation.
_GRACE_SECONDS = 30.0
_TAIL_LINES = 60
#: Options of every kernel that is built here; others may have none of these.
_OPTIONS = "cat /boot/config-$(uname -r)"
# The end of standard input is the end of the test. tmpfs hides /run, where `ip netns` notes its namespaces.
_RUN = """\
cd {directory} || exit
exec 3<&0
limit=/proc/sys/net/core/optmem_max
before=$(cat $limit)
timeout -s KILL {seconds} \\
  unshare --fork --kill-child --pid --mount --mount-proc {network} sh -c {inner} </dev/null 3<&- 2>&1 &
test=$!
{{ read -r _; kill -KILL -$test; }} <&3 3<&- >/dev/null 2>&1 &
guard=$!
wait $test
status=$?
kill $guard
[ "$(cat $limit)" = "$before" ] || echo "$before" >$limit
exit $status
"""


def command(test: Selftest) -> str:
    """Return the command that runs a test on a host. Its exit status is the test's, 137 if time was up."""
    inner = "mount -t tmpfs selftest /run && "
    if not test.host_network:
        inner += "ip link set lo up && "
    script = _RUN.format(
        directory=shlex.quote(DIRECTORY),
        seconds=test.seconds,
        network="" if test.host_network else "--net",
        inner=shlex.quote(f"{inner}exec {test.command}"),
    )
    return shlex.join(["sh", "-c", script])


def carry_out(lab: Lab, on_progress: Progress, open_session: Opener = Session.open) -> SelftestsDocument:
    """Run every test on the lab's first pair; keep the result and return it.

    on_progress: gets one line for each test.

    Raises:
        UsageError: no host stands, the lab boots no kernel of its own, or a patch of it does not apply to the
            tests.
        LabError: the lab is not up, is in use, a host cannot be reached, or the tree cannot be fetched.
        InvalidError: the hosts run another kernel than the lab has booted.
    """
    deploy_state.require_hosts(lab)
    artifact = deploy_state.running_kernel(lab)
    if artifact is None:
        raise UsageError(f"{lab.name}: runs this machine's own kernel: name a lab that boots one of its own")
    variant = lab.kernel_variants[artifact.variant]
    built = build.build(variant, on_progress)
    install.install(lab, built.files, on_progress, DIRECTORY)
    programs = install.sums(built.files, DIRECTORY)
    with open_session(lab) as opened:
        session = opened.with_programs(programs)
        session.require_one_kernel()
        run = session.begin(SELFTESTS, tree=built.tree, fingerprint=fingerprint(variant), programs=programs)
        with session.recording(run):
            bench = _Bench(session, built)
            wanted: list[Selftest | PairTest] = [*table.TESTS, *table.PAIR_TESTS]
            for test in wanted:
                found = bench.tried(test)
                run.append(found)
                on_progress(_line(found))
            run.update(host_problems=_replaced(run.manifest(), session))
    return run.document()


SUITE = on_kernel.Suite(SELFTESTS, carry_out, fingerprint, diff)


def _replaced(manifest: SelftestsManifest, session: Session) -> list[str]:
    """Return which programs on the hosts were not those that were built, before the tests or after them."""
    try:
        after = session.snapshot()
    except RemoteError as error:
        return [f"the programs were not compared after the tests: {error}"]
    reasons = [
        reason
        for state in (session.state, after)
        for host, found in state.items()
        for reason in installed.deviations(manifest, host, found)
    ]
    return list(dict.fromkeys(reasons))


def _line(test: TestDocument) -> str:
    parts = f", {len(test.subtests)} subtests" if test.subtests else ""
    return f"{test.name}: {test.result}{parts}" + (f": {test.reason}" if test.reason else "")


class _Bench:
    """Two hosts with the files of the tests; runs one test at a time; the receiver is its one host."""

    def __init__(self, session: Session, built: build.Built) -> None:
        self._session = session
        self._lab = session.lab
        self._members = session.members
        self._built = built
        self._receiver = session.remotes[self._members[1].name]
        text = self._receiver.output(_OPTIONS)
        self._options = set(re.findall(r"^CONFIG_(\w+)=[ym]$", text, re.MULTILINE))

    def tried(self, test: Selftest | PairTest) -> TestDocument:
        """Run a test unless it cannot be run here; whatever goes wrong is its result."""
        what = self._command(test)
        if reason := self._not_here(test):
            return self._document(test, what, reading.Read([], [], skipped=reason))
        began = time.monotonic()
        try:
            if isinstance(test, PairTest):
                found, output = self._pair(test)
            else:
                done = self._receiver.run(what, test.seconds + _GRACE_SECONDS)
                output = done.stdout + done.stderr
                found = reading.read(test, done.status, output, self._options)
        except RemoteError as error:
            found, output = reading.Read([], [str(error)]), ""
            self._session.disconnect()
        return self._document(test, what, found, round(time.monotonic() - began, 1), output)

    def _not_here(self, test: Selftest | PairTest) -> str | None:
        """Return why a test cannot be run here, if that is so."""
        if isinstance(test, PairTest):
            try:
                self._members[1].endpoints(test.ip_version)
            except UsageError as error:
                return str(error)
            return self._built.missing.get(table.TCP_MMAP)
        if lacking := [option for option in test.needs if option not in self._options]:
            return f"the kernel has no {', '.join(f'CONFIG_{option}' for option in lacking)}"
        missing = self._built.missing
        return next((missing[name] for name in test.programs + test.scripts if name in missing), None)

    def _command(self, test: Selftest | PairTest) -> str:
        return tcp_mmap_receive(self._task(test)) if isinstance(test, PairTest) else command(test)

    def _task(self, test: PairTest) -> Task:
        sender, receiver = self._members
        return Task(
            maps=test.maps,
            send_mode=test.send_mode,
            chunk_bytes=self._lab.limits.rcvlowat_bytes,
            seconds=test.seconds,
            sender=sender,
            receiver=receiver,
            directory=DIRECTORY,
            ip_version=test.ip_version,
        )

    def _pair(self, test: PairTest) -> tuple[reading.Read, str]:
        """Run tcp_mmap between the hosts; return what it says, and what both ends printed."""
        task = self._task(test)
        ends = self._session.transfer(
            tcp_mmap_receive(task), lambda port: tcp_mmap_send(task), test.seconds, tool_failed
        )
        sent = ends.sender or Completed(None, "", "the sender was not started")
        bounds = self._lab.expectations.validity.mapped_fraction.get("map_once", {}).get(test.send_mode)
        complaints = f"{ends.receiver.stderr}{sent.stderr}"
        found = reading.read_pair(test, ends.receiver.stdout, complaints, bounds.at_least if bounds else None)
        if sent.status != 0:
            why = f"no end within {test.seconds} s" if sent.status == TIMED_OUT else f"status {sent.status}"
            found.reasons.insert(0, f"the sender: {why}")
        return found, f"{ends.receiver.stdout}{complaints}"

    def _document(
        self,
        test: Selftest | PairTest,
        what: str,
        found: reading.Read,
        seconds: float | None = None,
        output: str | None = None,
    ) -> TestDocument:
        files = (table.TCP_MMAP,) if isinstance(test, PairTest) else test.programs + test.scripts
        changes = [note for name in files if (note := self._built.changed.get(name))]
        return TestDocument(
            name=test.name,
            why=test.why,
            command=what if isinstance(test, PairTest) else test.command,
            result=found.result,
            subtests=found.subtests,
            reason=found.reason,
            changed="; ".join(changes) or None,
            seconds=seconds,
            output_tail=None if output is None else "\n".join(output.splitlines()[-_TAIL_LINES:]),
        )
