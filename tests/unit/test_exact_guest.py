# SPDX-License-Identifier: Apache-2.0
"""An exact guest without one: its list of steps, its initramfs, its emulator's options."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError
from tests import factories

from zclab.backends.exact import emulator, steps
from zclab.backends.exact.steps import Output, Step
from zclab.base.errors import LabError, UsageError


def start(name: str, command: str = "true", **more: Any) -> Step:
    return Step(do="start", name=name, command=command, **more)


# The list


def test_the_list_is_written_as_init_reads_it() -> None:
    listed = [
        start("receiver", "echo ü\necho {port}", namespace="receiver"),
        Step(do="await", name="receiver", stream="stderr", prefix="listening ", seconds=1.5),
        start("sender", "true"),
        Step(do="write", name="sender", prefix=""),
        Step(do="end", name="sender"),
    ]
    assert steps.encode(listed, "unlimited").decode() == (
        "memlock unlimited\n"
        "start receiver receiver 19\necho ü\necho {port}\n"
        "await receiver stderr 1500 10\nlistening \n"
        "start sender - 4\ntrue\n"
        "write sender 0\n\n"
        "end sender 120000\n"
    )


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ([start("a"), start("a")], "a is started twice"),
        ([Step(do="end", name="a")], "a was not started: end"),
        ([start(f"p{number}") for number in range(4097)], "starts 4097 processes, at most 4096"),
    ],
)
def test_what_is_not_a_list_is_refused(listed: list[Step], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        steps.encode(listed)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"do": "start"}, "start needs command"),
        ({"do": "await", "stream": "stdout"}, "await needs prefix"),
        ({"do": "end", "command": "true"}, "end has no command"),
        ({"do": "start", "command": "a\0b"}, "NUL"),
        ({"do": "write", "prefix": "a\nb"}, "one line"),
        ({"do": "end", "seconds": 0}, "greater than 0"),
    ],
)
def test_a_step_has_what_it_takes_and_nothing_else(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Step(name="a", **fields)


def test_what_init_printed_is_read_and_a_cut_is_seen() -> None:
    printed = (
        b'{"name":"a","status":0,"stdout":"x\\n","stderr":""}\n'
        b'{"name":"b","status":null,"stdout":"","stderr":"\xff"}\n{"end":2}\n'
    )
    outputs = steps.decode(printed)
    assert outputs == {
        "a": Output(status=0, stdout="x\n", stderr=""),
        "b": Output(status=None, stdout="", stderr="\ufffd"),
    }
    for cut in (0, 10, 60, len(printed) - 9, len(printed) - 2):
        assert steps.decode(printed[:cut]) is None, cut
    with pytest.raises(LabError, match="1 of 2 outputs arrived"):
        steps.decode(printed[printed.index(b"\n") + 1 :])


# The set-up


def test_the_setup_is_what_the_inventory_declares() -> None:
    lab = factories.lab()
    listed = {step.name: step for step in steps.setup_steps(lab, "veth") if step.do == "start"}
    assert [step.namespace for step in listed.values()] == [
        None,
        None,
        "sender",
        "receiver",
        "sender",
        "receiver",
        None,
    ]
    machine, link = listed["setup/machine"].command or "", listed["setup/link"].command or ""
    for name, value in lab.limits.sysctls.items():
        file = f"/proc/sys/{name.replace('.', '/')}"
        assert re.search(rf"^echo '?{value}'? >{file}$", machine, re.MULTILINE)
    sender, receiver = lab.pair()
    ends = (
        f"{sender.data_interface} netns sender type veth peer name {receiver.data_interface} netns receiver"
    )
    assert link.endswith(f"ip link add {ends}")
    for host in (sender, receiver):
        script = listed[f"setup/{host.role}"].command or ""
        assert f"ip link set dev {host.data_interface} mtu {lab.expectations.link.mtu} up" in script
        assert f"ip addr add {host.data_address} dev {host.data_interface} nodad" in script
        for name, on in host.tuning.offloads.items():
            assert re.search(rf"ethtool -K .*\b{name} {'on' if on else 'off'}\b", script)
    other = [step.command for step in steps.setup_steps(lab, "e1000e") if step.name == "setup/link"]
    assert f"ip link set dev eth1 netns receiver name {receiver.data_interface}" in (other[0] or "")


def test_the_setup_is_the_same_in_whatever_order_the_inventory_declares_it() -> None:
    lab = factories.lab("exact")
    turned = dict(reversed(lab.limits.sysctls.items()))
    other = lab.model_copy(update={"limits": lab.limits.model_copy(update={"sysctls": turned})})
    assert [*turned] != [*lab.limits.sysctls]
    assert steps.setup_steps(other, "veth") == steps.setup_steps(lab, "veth")


def test_a_setup_that_failed_names_the_command() -> None:
    good = Output(status=0, stdout="", stderr="+ ip link add\n")
    steps.check_setup({"setup/link": good, "transfer": Output(status=1, stdout="", stderr="")})
    bad = Output(status=255, stdout="", stderr="+ ip link add x\n+ ethtool -K x tso off\nno such device\n")
    with pytest.raises(LabError, match=r"sender cannot be set up .*: ethtool -K x tso off: no such device"):
        steps.check_setup({"setup/link": good, "setup/sender": bad})
    with pytest.raises(LabError, match="status None"):
        steps.check_setup({"setup/link": Output(status=None, stdout="", stderr="")})


# The emulator


def test_what_is_recorded_of_the_options_names_no_path_and_no_seed() -> None:
    files = {name: f"/some/where,else/{name}" for name in emulator.FILES}
    real = emulator.options("e1000e", 1024, files, "7")
    names = emulator.options("e1000e", 1024, {name: name for name in emulator.FILES}, "SEED")
    plain = [re.sub("/some/where,+else/", "", word).replace("7", "SEED") for word in real]
    assert plain == [word.replace("7", "SEED") for word in names]
    # A comma is doubled where it would end a value.
    assert "/some/where,else/kernel" in real and "file,id=console,path=/some/where,,else/console" in real
    assert "/" not in " ".join(names).replace("rdinit=/init", "")
    assert sum(word.startswith("e1000e,") for word in real) == 2
    assert not any("e1000e" in word for word in emulator.options("veth", 1024, files, "7"))
