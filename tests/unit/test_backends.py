# SPDX-License-Identifier: Apache-2.0
"""What the kind of a lab decides, as its backend answers it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import factories

from zclab.backends.choice import backend_of
from zclab.backends.namespaces import lab as namespaces
from zclab.base.errors import LabError, UsageError
from zclab.lab.model import Lab


def lab_of(kind: str, state_dir: Path) -> Lab:
    name = {"hardware": "connectx3"}.get(kind, kind)
    return factories.lab(name).model_copy(update={"state_dir": state_dir})


@pytest.mark.parametrize(("kind", "seconds"), [("virtual", 2.0), ("namespaces", 0.3), ("hardware", 0.7)])
def test_seconds_beside_a_window(kind: str, seconds: float, tmp_path: Path) -> None:
    assert backend_of(lab_of(kind, tmp_path)).overhead_seconds == seconds


@pytest.mark.parametrize("kind", ["virtual", "hardware"])
def test_a_console_log_is_in_the_folder_of_its_host(kind: str, tmp_path: Path) -> None:
    found = backend_of(lab_of(kind, tmp_path)).console("receiver1")
    assert found == tmp_path / "hosts" / "receiver1" / "console.log"


def test_namespaces_have_no_console(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"namespaces: its hosts have no console: .* reports to dmesg$"):
        backend_of(lab_of("namespaces", tmp_path)).console("receiver1")


def test_only_what_the_lab_makes_can_be_taken_down(tmp_path: Path) -> None:
    for kind in ("virtual", "namespaces"):
        backend_of(lab_of(kind, tmp_path)).check_down()
    with pytest.raises(UsageError, match=r"hardware hosts cannot be taken down: playbooks/restore.yml"):
        backend_of(lab_of("hardware", tmp_path)).check_down()


def test_only_namespaces_are_made_without_being_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, missing in (("virtual", False), ("namespaces", True), ("hardware", False)):
        assert backend_of(lab_of(kind, tmp_path)).missing() is missing
    monkeypatch.setattr(namespaces, "ready", lambda state_dir, hosts: True)
    assert not backend_of(lab_of("namespaces", tmp_path)).missing()


def test_only_virtual_hosts_have_an_accelerator(tmp_path: Path) -> None:
    for kind in ("namespaces", "hardware"):
        assert backend_of(lab_of(kind, tmp_path)).accelerator() is None
    with pytest.raises(LabError, match="a virtual host does not run"):
        backend_of(lab_of("virtual", tmp_path)).accelerator()


def test_status_of_hosts_that_are_not_there(tmp_path: Path) -> None:
    rows = list(backend_of(lab_of("namespaces", tmp_path)).status())
    assert rows == [{"host": name, "state": "down"} for name in lab_of("namespaces", tmp_path).pair().names]
    assert {row["state"] for row in backend_of(lab_of("virtual", tmp_path)).status()} == {"down"}
