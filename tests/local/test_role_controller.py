# SPDX-License-Identifier: Apache-2.0
"""The role controller: what it says of a package that Debian does not offer. Nothing is installed here."""

from __future__ import annotations

import json
import subprocess

import pytest

from zclab.base.paths import project_root
from zclab.debian.sources import codename


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "shellcheckk",
            "package shellcheckk: Debian {} does not offer it: the closest that it offers is shellcheck",
        ),
        ("shellchec[k]", "controller_packages: shellchec[k] is not the name of a Debian package: correct it"),
        ("shellchec.*", "controller_packages: shellchec.* is not the name of a Debian package: correct it"),
    ],
)
def test_a_package_that_debian_lacks_is_named(name: str, words: str) -> None:
    wanted = json.dumps({"controller_packages": [{"name": name, "why": "a test"}]})
    command = [str(project_root() / ".venv/bin/ansible-playbook"), "--check", "playbooks/controller.yml"]
    done = subprocess.run(
        [*command, "-e", wanted],
        cwd=project_root(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert words.format(codename()) in " ".join(done.stdout.split()), done.stdout
