# SPDX-License-Identifier: Apache-2.0
"""The facts of a host, asked of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import factories
from tests.ssh_server import SshServer
from tests.unit.test_hostfacts import SAID

from zclab.host import facts as hostfacts
from zclab.host import placement
from zclab.host import state as hoststate
from zclab.host.snapshot import Snapshot
from zclab.host.ssh import Remote, RemoteError
from zclab.lab.model import Host


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    server = SshServer(tmp_path)
    with Remote("host1", server.ssh_config) as opened:
        yield opened
    server.close()


def loopback() -> Host:
    data = factories.manifest().pair[1].model_dump() | {"name": "host1", "data_interface": "lo"}
    return Host.model_validate(data)


@pytest.mark.skipif(not Path("/sys/kernel/notes").is_file(), reason="this kernel shows no notes")
def test_this_machine_answers(remote: Remote) -> None:
    """The command line as it is, run by a shell; loopback is on every machine."""
    state = hoststate.snapshot({"host1": remote}, [loopback()], factories.lab())["host1"]
    assert state.kernel_release == Path("/proc/sys/kernel/osrelease").read_text(encoding="utf-8").strip()
    assert state.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    assert state.mtu == int(Path("/sys/class/net/lo/mtu").read_text(encoding="utf-8"))
    assert "127.0.0.1/8" in state.addresses
    assert state.header_split is None


def test_an_interface_that_is_not_there(remote: Remote) -> None:
    host = loopback().model_copy(update={"data_interface": "nosuch0"})
    with pytest.raises(
        RemoteError, match=r"^host1: cannot read the state of nosuch0.*is the interface there"
    ):
        hoststate.snapshot({"host1": remote}, [host], factories.lab())


def test_facts_of_this_machine(remote: Remote) -> None:
    lab = factories.lab()
    artifact = factories.ARTIFACT
    state = Snapshot.model_validate(factories.snapshot(factories.RECEIVER))
    facts = hostfacts.facts(remote, loopback(), lab, artifact, state)
    assert (facts.kernel_release, facts.artifact_key) == (artifact.release, artifact.key)
    assert facts.nic.name == "lo"
    assert facts.nic.driver is None
    assert facts.nic.speed_mbps is None
    assert set(facts.sysctls) == set(lab.limits.sysctls)
    assert len(str(facts.sysctls["net.ipv4.tcp_rmem"]).split()) in (0, 1, 3)


def test_a_sysctl_that_only_the_machine_has() -> None:
    """A namespace may not show what is the machine's; where hosts are elsewhere nothing is made up."""
    lab = factories.lab("namespaces")
    said = SAID.replace("tcp_rmem", "tcp_mtu_probing").replace("4096\t131072\t16777216", "0")
    found = (
        hoststate.parse(said, loopback().model_copy(update={"data_interface": "data0"}), lab).sysctls or {}
    )
    machine = Path("/proc/sys/net/core/rmem_max").read_text(encoding="ascii").strip()
    assert found["net.core.rmem_max"] == machine
    assert found["net.ipv4.tcp_mtu_probing"] == "0"
    assert "net.ipv4.tcp_rmem" not in found
    elsewhere = lab.model_copy(update={"kind": "hardware"})
    assert "net.core.rmem_max" not in (
        hoststate.parse(said, loopback().model_copy(update={"data_interface": "data0"}), elsewhere).sysctls
        or {}
    )


def test_another_kernel_has_no_artifact_key(remote: Remote) -> None:
    state = Snapshot.model_validate(factories.snapshot(factories.RECEIVER, kernel_build_id="00"))
    facts = hostfacts.facts(remote, loopback(), factories.lab(), factories.ARTIFACT, state)
    assert facts.artifact_key is None


def test_the_placement_of_this_machine(remote: Remote) -> None:
    """Loopback has no device, so no interrupts, and nothing of it is steered."""
    host = loopback().model_copy(update={"traffic_cpus": [0]})
    found = placement.read(remote, host)
    assert (found.traffic_cpus, found.interrupts) == ([0], None)
    assert found.rps_cpus == {"rx-0": []} and found.rps_flow_cnt == {"rx-0": 0}
    assert found.kernel_arguments == Path("/proc/cmdline").read_text(encoding="utf-8").split()
    unpinned = placement.read(remote, loopback()).traffic_cpus
    assert unpinned == sorted(os.sched_getaffinity(0))
    absent = placement.read(remote, loopback().model_copy(update={"traffic_cpus": [4095]}))
    assert absent.traffic_cpus is None
    none = placement.read(remote, loopback().model_copy(update={"data_interface": "nosuch0"}))
    assert (none.interrupts, none.rps_cpus, none.rps_flow_cnt) == (None, None, None)


def test_the_interrupts_of_a_device_of_this_machine(remote: Remote) -> None:
    """Those that have a handler; others never come."""
    found: dict[int, list[int]] = {}
    for path in Path("/sys/class/net").iterdir():
        host = loopback().model_copy(update={"data_interface": path.name})
        found |= placement.read(remote, host).interrupts or {}
    if not found:
        pytest.skip("no interface of this machine shows its interrupts")
    for number, cpus in found.items():
        affinity = Path(f"/proc/irq/{number}/smp_affinity_list").read_text(encoding="utf-8").strip()
        assert cpus == hoststate.cpu_list(affinity)
