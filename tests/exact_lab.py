# SPDX-License-Identifier: Apache-2.0
"""A real exact guest for tests: its kernel, its ends as an inventory declares them, transfers."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from tests import factories
from tests.trusted_tool import Silent

from zclab.analysis.verdict import RUN, MeasuringRun
from zclab.backends.exact import guest as exact_guest
from zclab.backends.exact import kernel, steps
from zclab.backends.exact.emulator import Limits
from zclab.backends.exact.guest import Execution, Guest
from zclab.backends.exact.steps import Link, Step
from zclab.base.paths import cache_dir, project_root
from zclab.lab.model import Lab
from zclab.measure import engine, exact, guests
from zclab.measure.driver import begin
from zclab.plan import schedule
from zclab.plan.plan import Plan
from zclab.traffic import binary
from zclab.traffic.command import TRAFFIC

#: Of the main job: `make test` has built it anyway.
VARIANT = "full"
MIB = 1 << 20
Alter = Callable[[list[Step]], list[Step]]


def declared() -> Lab:
    """Return the lab whose ends the guest has."""
    return factories.lab("virtual")


def guest(link: Link, seed: int = 1, variant: str = VARIANT) -> Guest:
    """Return a guest with the traffic tool; builds what is not built yet."""
    artifact = kernel.ensure(variant, declared().kernel_variants[variant], print).artifact
    tool = binary.build(project_root() / "traffic", cache_dir()).path
    return Guest(artifact_key=artifact.key, link=link, seed=seed, files={TRAFFIC: tool})


def setup(link: Link) -> list[Step]:
    """Return the steps that set the ends up."""
    return steps.setup_steps(declared(), link)


def transfer(name: str, receive_mode: str, send_mode: str, mib: int) -> list[Step]:
    """Return the steps of one transfer: processes NAME/receiver and NAME/sender, which print documents."""
    sender, receiver = declared().pair()
    both = ["--bytes", str(mib * MIB), "--token", "0123456789abcdef0123456789abcdef", "--watch-stdin"]
    receive = [
        *[TRAFFIC, "receive", "--bind", receiver.ip, "--peer", sender.ip, "--mode", receive_mode],
        *["--chunk-bytes", str(MIB // 2), "--rcvlowat", str(declared().limits.rcvlowat_bytes), *both],
    ]
    send = [
        *[TRAFFIC, "send", "--bind", sender.ip, "--peer", receiver.ip, "--mode", send_mode],
        *["--message-bytes", str(MIB), *both],
    ]
    sending = f"{shlex.join(send)} --port {{port}}"
    return [
        Step(do="start", name=f"{name}/receiver", namespace="receiver", command=shlex.join(receive)),
        Step(do="await", name=f"{name}/receiver", stream="stderr", prefix="listening ", seconds=10),
        Step(do="start", name=f"{name}/sender", namespace="sender", command=sending),
        Step(do="end", name=f"{name}/sender", seconds=60),
        Step(do="end", name=f"{name}/receiver", seconds=60),
    ]


def command(name: str, line: str) -> list[Step]:
    """Return the steps that run one command to its end."""
    return [Step(do="start", name=name, command=line), Step(do="end", name=name)]


class RealLab:
    """An exact lab whose guests are real; a test alters the list of each guest that measures."""

    def __init__(self, name: str, directory: Path) -> None:
        self.lab: Lab = factories.lab(name).model_copy(update={"state_dir": directory / "state"})
        self.directory = directory
        self.executed: list[Execution] = []

    def opened(self, alter: Alter | None = None, tool: Path | None = None) -> guests.OpenGuests:
        def execute(
            made: Guest, steps: Sequence[Step], directory: Path, limits: Limits, *, by_function: bool = False
        ) -> Execution:
            measures = any(step.name.startswith("0/") for step in steps)
            listed = alter(list(steps)) if alter and measures else list(steps)
            if tool is not None and measures:
                made = made.model_copy(update={"files": dict.fromkeys(made.files, tool)})
            done = exact_guest.execute(made, listed, directory, limits, by_function=by_function)
            self.executed.append(done)
            return done

        return guests.opener(self.directory / "guest", execute, on_progress=print)

    def run(self, of: Plan, alter: Alter | None = None, tool: Path | None = None) -> MeasuringRun:
        return engine.execute(self.lab, of, Silent(), open_driver=exact.opener(self.opened(alter, tool)))

    def run_in_one_guest(self, of: Plan, alter: Alter | None = None) -> MeasuringRun:
        """Make every measurement of a plan in the same guest: for what each shows, not for comparisons."""
        with self.opened(alter)(self.lab) as held:
            driver = exact.Exact(held)
            settled = of.settled(self.lab.expectations.link.ip_version, 1)
            run = begin(self.lab.name, RUN, driver.manifest_fields(settled))
            with driver.recording(run):
                for record in driver.measure(run.manifest(), schedule.measurements(settled)):
                    run.append(record)
        return run
