# SPDX-License-Identifier: Apache-2.0
"""Host state: what the playbooks were to make so, checked through testinfra."""

from __future__ import annotations

import pytest

from zclab.inventory import Lab
from zclab.pytest_plugin import HostUnderTest, Pair


@pytest.fixture(params=["sender", "receiver"])
def host(request: pytest.FixtureRequest, pair: Pair) -> HostUnderTest:
    chosen: HostUnderTest = getattr(pair, request.param)
    return chosen


def test_link_mtu(host: HostUnderTest, lab: Lab) -> None:
    """The data interface has the MTU that carries whole pages."""
    mtu = host.testinfra.file(f"/sys/class/net/{host.declared.data_interface}/mtu").content_string
    assert int(mtu) == lab.link.mtu


def test_data_address(host: HostUnderTest) -> None:
    """The data address is on the data interface."""
    assert host.declared.ip in host.testinfra.interface(host.declared.data_interface).addresses


def test_sysctls(host: HostUnderTest, lab: Lab) -> None:
    """Every declared sysctl has its declared value."""
    found = {key: host.testinfra.check_output("sysctl -n %s", key) for key in lab.limits.sysctls}
    assert {key: value.split() for key, value in found.items()} == {
        key: str(value).split() for key, value in lab.limits.sysctls.items()
    }


def test_locked_memory(host: HostUnderTest, lab: Lab) -> None:
    """A new session may lock as much memory as declared."""
    limit = host.testinfra.check_output("bash -c 'ulimit -l'")
    assert limit == str(lab.limits.locked_memory_kib)


def test_no_password_login(host: HostUnderTest, lab: Lab) -> None:
    """The hosts that the lab makes take keys only."""
    if lab.kind != "virtual":
        pytest.skip("the lab did not make these hosts")
    settings = host.testinfra.check_output("sshd -T").splitlines()
    assert "passwordauthentication no" in settings


def test_peer_answers_a_full_segment(pair: Pair, lab: Lab) -> None:
    """A packet as long as the MTU crosses the link unfragmented."""
    payload = lab.link.mtu - {4: 20, 6: 40}[lab.link.ip_version] - 8
    done = pair.sender.remote.run(f"ping -c 3 -W 5 -M do -s {payload} {pair.sender.declared.peer_address}")
    assert done.status == 0, done.stdout + done.stderr
