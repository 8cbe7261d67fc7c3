# SPDX-License-Identifier: Apache-2.0
"""Building an image: mounts below a tree, and processes that are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from zclab.backends.virtual import disk


def test_a_tree_with_mounts_is_never_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "shm").mkdir(parents=True)
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "file").write_text("precious")
    script = (
        f"mount --bind {keep} {tree}/shm && {sys.executable} -c 'from zclab.base.files import remove_tree; "
        f'from pathlib import Path; remove_tree(Path("{tree}"))\''
    )
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    done = subprocess.run(
        ["unshare", "--mount", *as_root, "sh", "-c", script], capture_output=True, text=True, check=False
    )
    if "unshare" in done.stderr:
        pytest.skip("no namespaces here")
    assert "is mounted" in done.stderr
    assert (keep / "file").read_text() == "precious"


def living(group: int) -> list[str]:
    """Return the live processes of a process group."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [row[2] for row in rows if int(row[0]) == group and not row[1].startswith("Z")]


def test_interrupted_command_takes_its_group_along(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from zclab.base.process import interruptible, stream\n"
        "with interruptible():\n"
        "    stream(['sh', '-c', 'echo $$; sleep 1000 & sleep 1000'], print, log=Path(sys.argv[1]))"
    )
    log = tmp_path / "log"
    child = subprocess.Popen([sys.executable, "-c", script, str(log)], start_new_session=True)
    while not log.exists() or len(log.read_text().splitlines()) < 2:
        time.sleep(0.05)
    group = int(log.read_text().splitlines()[1])
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 128 + signal.SIGTERM
    assert living(group) == []


def test_file_system_is_written_at_its_offset(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/hello").write_text("hello")
    raw = tmp_path / "raw"
    disk.create(raw, 64)
    command = disk.mke2fs_command(raw, 64, tmp_path / "root", uuid.UUID(int=7))
    subprocess.run(command, check=True, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"})
    assert raw.read_bytes()[(1 << 20) + 1024 + 56 : (1 << 20) + 1024 + 58] == b"\x53\xef"
