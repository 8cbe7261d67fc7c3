# SPDX-License-Identifier: Apache-2.0
"""Runs of playbooks through ansible-runner: progress, timings, and failures as one line each."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, NamedTuple

from zclab.base.environment import ansible, of_child, replaced
from zclab.base.errors import LabError
from zclab.base.paths import project_root
from zclab.base.progress import Progress
from zclab.base.timing import Timing

#: Playbook runs kept in a lab's state directory.
_KEPT_RUNS = 10


class Outcome(NamedTuple):
    """What a playbook run left: where its artifacts are, timings, and the number of changes per host."""

    directory: Path
    timings: list[Timing]
    changed: dict[str, int]


def run(
    playbook: str,
    lab_dir: Path,
    artifacts: Path,
    on_progress: Progress,
    extra_vars: dict[str, Any] | None = None,
) -> Outcome:
    """Run playbooks/<playbook>.yml on a lab; artifacts go to a new folder under `artifacts`.

    Raises:
        LabError: a task failed or a host was unreachable; the message names host, task and reason.
    """
    import ansible_runner  # takes most of a second

    directory = artifacts / f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{playbook}"
    directory.mkdir(parents=True)
    listener = _Listener(on_progress)
    # ansible-runner hands on what it finds in its own process.
    with _signals_put_back(), replaced(of_child(ansible())):
        result = ansible_runner.run(
            private_data_dir=str(directory),
            project_dir=str(project_root()),
            playbook=f"playbooks/{playbook}.yml",
            inventory=str(lab_dir),
            extravars=extra_vars or {},
            event_handler=listener.handle_event,
            quiet=True,
        )
    _drop_old(artifacts)
    if result.status == "canceled":
        raise KeyboardInterrupt
    if result.status != "successful":
        reasons = listener.failures or [f"ansible-playbook ended as {result.status}: see {directory}"]
        raise LabError("; ".join(dict.fromkeys(reasons)))
    stats = result.stats or {}
    hosts = {*stats.get("ok", {}), *stats.get("changed", {})}
    return Outcome(
        directory, listener.timings, {host: stats.get("changed", {}).get(host, 0) for host in sorted(hosts)}
    )


@contextmanager
def _signals_put_back() -> Iterator[None]:
    """Undo what ansible-runner leaves: its handlers of Ctrl-C and SIGTERM let nothing later be ended."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items() if current_thread() is main_thread() else ():
            signal.signal(number, handler)


def _drop_old(artifacts: Path) -> None:
    for directory in sorted(path for path in artifacts.iterdir() if path.is_dir())[:-_KEPT_RUNS]:
        shutil.rmtree(directory)


class _Listener:
    """Turns ansible-runner's events into lines, timings and failures."""

    def __init__(self, on_progress: Progress) -> None:
        self._on_progress = on_progress
        self._task = ""
        self.timings: list[Timing] = []
        self.failures: list[str] = []

    def handle_event(self, event: dict[str, Any]) -> bool:
        """Take one event; an exception here would end the whole run, so unknown shapes are passed over."""
        data = event.get("event_data") or {}
        kind = event.get("event")
        result: dict[str, Any] = data["res"] if isinstance(data.get("res"), dict) else {}
        if kind == "playbook_on_task_start":
            self._start(str(data.get("name", "")))
        elif kind in ("runner_on_ok", "runner_on_failed"):
            self._keep_timings(result.get("zclab_timing"), data)
            if kind == "runner_on_failed" and not data.get("ignore_errors"):
                self.failures.append(f"{data.get('host')}: {data.get('task')}: {_reason(result)}")
        elif kind == "runner_on_unreachable":
            self.failures.append(f"{data.get('host')}: unreachable: {_reason(result)}")
        elif kind == "verbose" and (line := str(event.get("stdout", "")).strip()):
            self._on_progress(f"    {line}")
        return True

    def _start(self, task: str) -> None:
        if "Validating arguments" not in task and task != self._task:
            self._task = task
            self._on_progress(task)

    def _keep_timings(self, found: Any, data: dict[str, Any]) -> None:
        for one in found if isinstance(found, list) else [found]:
            if isinstance(one, dict) and isinstance(one.get("seconds"), int | float):
                part = str(one.get("part", "")).replace("{host}", str(data.get("host")))
                self.timings.append(Timing(part, float(one["seconds"])))


def _reason(result: dict[str, Any]) -> str:
    if isinstance(items := result.get("results"), list):  # a loop: what failed is in its items
        failed = [one for one in items if isinstance(one, dict) and one.get("failed")]
        if failed:
            return "; ".join(dict.fromkeys(map(_reason, failed)))
    message = str(result.get("msg") or result.get("stderr") or result.get("exception") or "no message")
    return " ".join(message.split()) if "\n" not in message.strip() else message.strip()
