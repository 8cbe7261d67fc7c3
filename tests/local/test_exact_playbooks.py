# SPDX-License-Identifier: Apache-2.0
"""Playbooks on a lab of which no host stands: none of them reaches for one."""

from __future__ import annotations

import re
import subprocess

import pytest

from zclab.base.environment import ansible, of_child
from zclab.base.paths import project_root


@pytest.mark.parametrize("playbook", ["site", "restore"])
def test_no_host_is_reached_for(playbook: str) -> None:
    """`site.yml` ends after the build, which a dry run tells of."""
    command = [str(project_root() / ".venv/bin/ansible-playbook"), "-i", "inventory/exact", "--check"]
    done = subprocess.run(
        [*command, f"playbooks/{playbook}.yml"],
        cwd=project_root(),
        env=of_child(ansible()),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    recaps = re.findall(r"^(\S+) +: ok=(\d+) .*unreachable=(\d+) +failed=(\d+)", done.stdout, re.MULTILINE)
    assert {
        name: (int(ok), int(lost), int(failed)) for name, ok, lost, failed in recaps if name != "localhost"
    } == {"sender1": (0, 0, 0), "receiver1": (0, 0, 0)}
    assert ("Build what a guest is made from" in done.stdout) == (playbook == "site")
