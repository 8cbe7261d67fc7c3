# SPDX-License-Identifier: Apache-2.0
"""A system of the other release: entered in namespaces of its own, and gone whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zclab.base.errors import LabError
from zclab.debian import sources
from zclab.jobs import other_release

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def made_of_this_machine(root: Path) -> None:
    """Make a tree that uses this machine's programs, in the time of a few links."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in ("proc", "dev", "sys", "run", "etc", "root", "tmp"):
        (root / name).mkdir()


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def test_a_command_runs_in_the_tree_and_leaves_nothing(tmp_path: Path) -> None:
    before = mounts()
    (tmp_path / "setting").write_text("the network")
    with other_release.tree(tmp_path) as root:
        made_of_this_machine(root)
        (tmp_path / "outside").write_text("kept")
        (root / tmp_path.relative_to("/")).mkdir(parents=True)
        (root / tmp_path.relative_to("/") / "setting").symlink_to(tmp_path / "outside")
        script = (
            f"test ! -e /var && findmnt -no TARGET / && cat {tmp_path}/setting && echo -$ZCLAB_CACHE-$HOME-; "
            f"echo no >{tmp_path}/setting; touch /here; sleep 600 & exit 7"
        )
        lines: list[str] = []
        settings = ("/usr", f"{tmp_path}/setting", "/no/such/setting")
        status = other_release.run_in(root, ["sh", "-c", script], lines.append, settings)
        assert status == 7
        assert lines[:2] == ["/", "the network--/root-"], lines
        assert (root / "here").exists() and (tmp_path / "setting").read_text() == "the network"
        assert (tmp_path / "outside").read_text() == "kept"
        assert mounts() == before, "what is mounted there is seen there alone"
    assert not list(tmp_path.glob("release-*")) and mounts() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_it_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    script = f"""
import sys
from pathlib import Path
from tests.local.test_other_release import made_of_this_machine
from zclab.base import program
from zclab.jobs import other_release

def work():
    with other_release.tree(Path({str(tmp_path)!r})) as root:
        made_of_this_machine(root)
        command = ["sh", "-c", "echo started; exec sleep 598"]
        return other_release.run_in(root, command, print, ("/usr",))

sys.exit(program.run("t", work))
"""
    before = mounts()
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "started\n"
        assert len(list(tmp_path.glob("release-*"))) == 1
        child.send_signal(number)
    deadline = time.monotonic() + 30
    while list(tmp_path.iterdir()) or sleeping():
        assert time.monotonic() < deadline, list(tmp_path.iterdir())
        time.sleep(0.1)
    assert mounts() == before


def sleeping() -> bool:
    listed = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout
    return "sleep 598" in listed.splitlines()


def install_nothing(root: Path, release: str, on_progress: object) -> None:
    made_of_this_machine(root)
    (root / "srv").mkdir()


@pytest.mark.parametrize(
    ("output", "status", "code"),
    [
        ("verdict: pass", 0, 0),
        ("make: *** [Makefile:27: lab] Error 3", 2, 3),
        ("make: *** [Makefile:27: lab] Error 130", 2, 130),
        ("make: *** [Makefile:27: lab] Killed", 2, 6),
        ("", 137, 6),
    ],
)
def test_the_exit_code_is_the_labs_and_not_makes(
    monkeypatch: pytest.MonkeyPatch, cache: Path, output: str, status: int, code: int
) -> None:
    commands = []

    def run_in(root: Path, command: list[str], on_line: object) -> int:
        assert (root / "srv/zclab/Makefile").is_file() and not (root / "root/.gitconfig").exists()
        commands.append(command)
        on_line(output)  # type: ignore[operator]
        return status

    monkeypatch.setattr(other_release, "install", install_nothing)
    monkeypatch.setattr(other_release, "run_in", run_in)
    assert other_release.make_lab("trixie", print) == code
    assert commands == [["make", "--directory", "/srv/zclab", "--no-print-directory", "lab"]]
    assert not list((cache / "other-release").iterdir())


def test_what_mmdebstrap_says_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "debian_sources", lambda release: "")
    monkeypatch.setattr(
        other_release, "privately", lambda command: ["sh", "-c", "echo E: no mirror; exit 25"]
    )
    (tmp_path / "root").mkdir()
    with pytest.raises(LabError, match=r"^Debian trixie: mmdebstrap cannot install it: no mirror$"):
        other_release.install(tmp_path / "root", "trixie", print)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_each_release_has_another() -> None:
    assert all(other_release.OTHER[other] == one for one, other in other_release.OTHER.items())
