# SPDX-License-Identifier: Apache-2.0
"""A session on a lab whose hosts answer over SSH, and pretend to run some kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from zclab.host.ssh import connected
from zclab.kernel.identity import Artifact
from zclab.lab.model import Lab
from zclab.measure.session import ConsoleWatch, Session


@contextmanager
def session_on(
    lab: Lab,
    kernels: Mapping[str, tuple[str, str]],
    artifact: Artifact | None = None,
    accelerator: str | None = None,
) -> Iterator[Session]:
    """Open a session with the hosts that `kernels` names, each with the release and build id that it runs."""
    state: Any = {
        name: SimpleNamespace(kernel_release=release, kernel_build_id=build_id, emulated=None)
        for name, (release, build_id) in kernels.items()
    }
    hosts = [host for host in lab.hosts if host.name in kernels]
    with connected([host.name for host in hosts], lab.state_dir / "ssh_config") as remotes:
        watch = ConsoleWatch.begin(lab, hosts)
        yield Session(lab, hosts, remotes, artifact, state, accelerator, watch, {})
