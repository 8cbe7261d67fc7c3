# SPDX-License-Identifier: Apache-2.0
"""Playbook runs: events become lines, timings and failures; a real run on this machine, a failing one."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from zclab.base.errors import LabError
from zclab.base.paths import project_root
from zclab.base.timing import Timing
from zclab.deploy import playbooks
from zclab.deploy.playbooks import Outcome


class Heard:
    """A listener and what it said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.listener = playbooks._Listener(self.said.append)

    def handle(self, kind: str, **data: Any) -> None:
        stdout = data.pop("stdout", "")
        assert self.listener.handle_event({"event": kind, "stdout": stdout, "event_data": data}) is True


@pytest.fixture
def heard() -> Heard:
    return Heard()


# --------------------------------------------------------------------------------------------------- events


def test_tasks_are_said_once(heard: Heard) -> None:
    for name in ("Read the lab", "lab : Validating arguments against arg spec 'main'", "Set MTU", "Set MTU"):
        heard.handle("playbook_on_task_start", name=name)
    assert heard.said == ["Read the lab", "Set MTU"]


def test_live_lines_are_passed_on(heard: Heard) -> None:
    heard.handle("verbose", stdout="compiling net/ipv4/tcp.c\n")
    heard.handle("verbose", stdout="  \n")
    assert heard.said == ["    compiling net/ipv4/tcp.c"]


@pytest.mark.parametrize("kind", ["runner_on_ok", "runner_on_failed"])
def test_timings_are_kept(heard: Heard, kind: str) -> None:
    one = {"part": "boot of {host}", "seconds": 12.5}
    heard.handle(kind, host="sender1", task="Boot", res={"zclab_timing": one})
    heard.handle(kind, host="sender1", task="Build", res={"zclab_timing": [{"part": "image", "seconds": 1}]})
    assert heard.listener.timings == [Timing("boot of sender1", 12.5), Timing("image", 1.0)]


def test_a_part_that_had_nothing_to_do_has_no_timing(heard: Heard) -> None:
    heard.handle("runner_on_ok", host="sender1", res={"zclab_timing": []})
    heard.handle("runner_on_ok", host="sender1", res={"zclab_timing": {"part": "image", "seconds": None}})
    heard.handle("runner_on_ok", host="sender1", res={})
    assert heard.listener.timings == []


def test_failures_name_host_task_and_reason(heard: Heard) -> None:
    heard.handle("runner_on_failed", host="sender1", task="Set MTU", res={"msg": "data0:  no such interface"})
    heard.handle("runner_on_unreachable", host="receiver1", task="Ping", res={"msg": "Connection refused"})
    assert heard.listener.failures == [
        "sender1: Set MTU: data0: no such interface",
        "receiver1: unreachable: Connection refused",
    ]


def test_a_failure_that_is_forgiven_is_none(heard: Heard) -> None:
    heard.handle("runner_on_failed", host="sender1", task="Look", ignore_errors=True, res={"msg": "no"})
    assert heard.listener.failures == []


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event": "runner_on_ok"},
        {"event": "runner_on_ok", "event_data": None},
        {"event": "runner_on_ok", "event_data": {"res": None}},
        {"event": "runner_on_ok", "event_data": {"res": "text"}},
        {"event": "runner_on_ok", "event_data": {"res": {"zclab_timing": "soon"}}},
        {"event": "runner_on_ok", "event_data": {"res": {"zclab_timing": [1, None, {}]}}},
        {"event": "runner_on_ok", "event_data": {"res": {"zclab_timing": {"part": "a", "seconds": "soon"}}}},
        {"event": "runner_on_failed", "event_data": {"res": {}}},
        {"event": "runner_on_failed", "event_data": {"res": {"msg": ["a", "list"]}}},
        {"event": "verbose", "stdout": None},
        {"event": "playbook_on_task_start", "event_data": {}},
    ],
)
def test_events_of_unknown_shape_are_passed_over(event: dict[str, Any]) -> None:
    """An exception in a listener would end the whole run."""
    assert playbooks._Listener(lambda line: None).handle_event(event) is True


# ------------------------------------------------------------------------------------------------ real runs

PLAY = [
    {
        "name": "Work",
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"name": "Change something", "ansible.builtin.debug": {"msg": "x"}, "changed_when": True},
            {"name": "Change nothing", "ansible.builtin.debug": {"msg": "{{ word }}"}},
            {
                "name": "Fail on the second",
                "ansible.builtin.fail": {"msg": "{{ inventory_hostname }} has no {{ item }}"},
                "loop": ["data0"],
                "when": "inventory_hostname == fails_on",
            },
        ],
    }
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Outcome]]:
    """Runs the playbook above on two names of this machine, as zclab runs its own."""
    root = tmp_path / "project"
    (root / "playbooks").mkdir(parents=True)
    (root / "playbooks" / "work.yml").write_text(yaml.safe_dump(PLAY), encoding="utf-8")
    config = (project_root() / "ansible.cfg").read_text(encoding="utf-8")
    (root / "ansible.cfg").write_text(config, encoding="utf-8")
    (root / "inventory").mkdir()
    hosts = {name: {"ansible_connection": "local"} for name in ("one", "two")}
    (root / "inventory" / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}), encoding="utf-8")
    monkeypatch.setattr(playbooks, "project_root", lambda: root)
    said: list[str] = []

    def go(fails_on: str = "none") -> Outcome:
        variables = {"word": "fine", "fails_on": fails_on}
        return playbooks.run("work", root / "inventory", tmp_path / "runs", said.append, variables)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield go
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_run_says_what_changed(run: Callable[..., Outcome], tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    outcome = run()
    assert outcome.changed == {"one": 1, "two": 1}
    assert outcome.timings == []
    assert outcome.directory.parent == tmp_path / "runs"
    events = list(outcome.directory.glob("artifacts/*/job_events/*.json"))
    assert any(json.loads(path.read_text())["event"] == "runner_on_ok" for path in events)
    # Ctrl-C has to end what comes after the playbooks, too.
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_failure_is_one_line_with_its_reason(run: Callable[..., Outcome]) -> None:
    with pytest.raises(LabError) as caught:
        run(fails_on="two")
    message = str(caught.value)
    assert caught.value.exit_code == 5
    assert len(message.splitlines()) == 1
    assert message.startswith("two: Fail on the second: ")
    assert "two has no data0" in message


def test_only_the_newest_runs_are_kept(tmp_path: Path) -> None:
    for number in range(15):
        (tmp_path / f"20260101T0000{number:02d}Z-site").mkdir()
    (tmp_path / "a-file").write_text("", encoding="utf-8")
    playbooks._drop_old(tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert kept == [f"20260101T0000{number:02d}Z-site" for number in range(5, 15)]
    assert (tmp_path / "a-file").exists()
