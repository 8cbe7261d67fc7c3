# SPDX-License-Identifier: Apache-2.0
"""The traffic tool built for tests, and places where it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.traffic_lab import TRAFFIC, Lab, run


@pytest.fixture(scope="session")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("traffic")
    command = ["make", "--silent", "-C", str(TRAFFIC), f"OUT={out}", "all", "sanitize"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    suffixes = {"normal": "", "sanitize": "-sanitize", "races": "-races"}
    return {build: str(out / f"zclab-traffic{suffix}") for build, suffix in suffixes.items()}


@pytest.fixture
def binary(binaries: dict[str, str]) -> str:
    return binaries["normal"]


@pytest.fixture
def lab(tmp_path: Path, binary: str) -> Iterator[Lab]:
    lab = Lab(tmp_path, binary)
    yield lab
    lab.close()


@pytest.fixture
def veth(lab: Lab) -> Iterator[Lab]:
    """A lab with each end in a namespace of its own, joined at MTU 4168: 4096 bytes of payload over IPv6."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and ip")
    names = [f"zct-{os.getpid()}-{side}" for side in ("r", "s")]
    try:
        for name in names:
            run("ip", "netns", "add", name)
        veth = f"type veth peer name data0 netns {names[1]} mtu 4168".split()
        run("ip", "link", "add", "data0", "mtu", "4168", "netns", names[0], *veth)
        for number, name in enumerate(names, 1):
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "address", "add", f"fd00:7a63::{number}/64", "dev", "data0", "nodad")
            run("ip", "-n", name, "link", "set", "data0", "up")
        lab.receive_prefix = ["ip", "netns", "exec", names[0]]
        lab.send_prefix = ["ip", "netns", "exec", names[1]]
        yield lab
    finally:
        lab.close()
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
