# SPDX-License-Identifier: Apache-2.0
"""A real exact guest for tests: its kernel, its ends as an inventory declares them, transfers."""

from __future__ import annotations

import shlex

from tests import factories

from zclab.backends.exact import kernel, steps
from zclab.backends.exact.guest import Guest
from zclab.backends.exact.steps import Link, Step
from zclab.base.paths import cache_dir, project_root
from zclab.lab.model import Lab
from zclab.traffic import binary
from zclab.traffic.command import TRAFFIC

#: Of the main job: `make test` has built it anyway.
VARIANT = "full"
MIB = 1 << 20


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
