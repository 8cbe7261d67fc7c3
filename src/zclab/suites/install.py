# SPDX-License-Identifier: Apache-2.0
"""Puts programs of others on the hosts of a lab. playbooks/restore.yml removes them."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import Any

from zclab.base.progress import Progress
from zclab.deploy import bring_up
from zclab.host.ssh import connected
from zclab.lab.model import Lab
from zclab.suites.crosscheck.programs import DIRECTORY


def install(lab: Lab, files: list[Path], on_progress: Progress, directory: str = DIRECTORY) -> None:
    """Have these files, and no others, in a directory of both hosts.

    Raises:
        LabError: a host cannot be reached or refuses.
    """
    if not _installed(lab, files, directory):
        paths = [str(file) for file in files]
        what: dict[str, Any] = {"host_programs_path": directory, "host_programs_files": paths}
        bring_up.run_playbook(lab, on_progress, "host_programs", **what)


def sums(files: list[Path], directory: str = DIRECTORY) -> dict[str, str]:
    """Return the sha256 (hex) of files by the path that they have on hosts."""
    return {f"{directory}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _installed(lab: Lab, files: list[Path], directory: str) -> bool:
    """Say so by asking both hosts for their sums: a second instead of a playbook's ten."""
    wanted = sorted((digest, Path(path).name) for path, digest in sums(files).items())
    with connected(lab.pair().names, lab.state_dir / "ssh_config") as remotes:
        said = [
            remote.run(f"cd {shlex.quote(directory)} && sha256sum *").stdout for remote in remotes.values()
        ]
    return all(sorted(_sums(text)) == wanted for text in said)


def _sums(text: str) -> list[tuple[str, str]]:
    return [(digest, name.strip()) for digest, _, name in (line.partition(" ") for line in text.splitlines())]
