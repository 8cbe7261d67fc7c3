# SPDX-License-Identifier: Apache-2.0
"""Host state: what the playbooks were to make so, checked through testinfra."""

from __future__ import annotations

import pytest

from zclab.lab.link import IP_HEADER_BYTES, ipv4_route_mtu
from zclab.lab.model import Lab
from zclab.pytest_plugin import HostUnderTest, PairUnderTest


@pytest.fixture(params=["sender", "receiver"])
def host(request: pytest.FixtureRequest, pair: PairUnderTest) -> HostUnderTest:
    chosen: HostUnderTest = getattr(pair, request.param)
    return chosen


def test_link_mtu(host: HostUnderTest, lab: Lab) -> None:
    """The data interface has the MTU that carries whole pages."""
    mtu = host.testinfra.file(f"/sys/class/net/{host.declared.data_interface}/mtu").content_string
    assert int(mtu) == lab.expectations.link.mtu


def test_data_addresses(host: HostUnderTest) -> None:
    """The data addresses are on the data interface."""
    second = host.declared.data_address_ipv4
    wanted = {host.declared.ip} | ({second.partition("/")[0]} if second else set())
    assert wanted <= set(host.testinfra.interface(host.declared.data_interface).addresses)


def test_ipv4_route_carries_whole_pages(host: HostUnderTest, lab: Lab) -> None:
    """The route to the peer's IPv4 address has an MTU for whole pages, where the link's is made for IPv6."""
    peer = host.declared.peer_address_ipv4
    if peer is None:
        pytest.skip("the lab declares no second addresses for IPv4")
    assert f"mtu {ipv4_route_mtu(lab.expectations.link.mtu)}" in host.testinfra.check_output(
        "ip -4 route get %s", peer
    )


def test_machine_sysctls(host: HostUnderTest, lab: Lab) -> None:
    """What belongs to the machine is at least as large as declared, where it is to be seen from the host."""
    if not lab.limits.machine_sysctls:
        pytest.skip("the hosts of this lab have their own sysctls")
    for key, least in lab.limits.machine_sysctls.items():
        file = host.testinfra.file(f"/proc/sys/{key.replace('.', '/')}")
        assert not file.exists or int(file.content_string) >= least, key


def test_sysctls(host: HostUnderTest, lab: Lab) -> None:
    """Every declared sysctl has its declared value, where a host has it for itself."""
    for key, value in lab.limits.sysctls.items():
        file = host.testinfra.file(f"/proc/sys/{key.replace('.', '/')}")
        if key in lab.limits.machine_sysctls and not file.exists:
            continue
        assert file.content_string.split() == str(value).split(), key


def test_locked_memory(host: HostUnderTest, lab: Lab) -> None:
    """A new session may lock as much memory as declared."""
    if lab.limits.locked_memory_kib is None:
        pytest.skip("the lab leaves this limit as it is")
    limit = host.testinfra.check_output("bash -c 'ulimit -l'")
    assert limit == str(lab.limits.locked_memory_kib)


def test_no_password_login(host: HostUnderTest, lab: Lab) -> None:
    """The hosts that the lab makes take keys only."""
    if not lab.traits.made:
        pytest.skip("the lab did not make these hosts")
    settings = host.testinfra.check_output("sshd -T").splitlines()
    assert "passwordauthentication no" in settings


def test_peer_answers_a_full_segment(pair: PairUnderTest, lab: Lab) -> None:
    """A packet as long as the MTU crosses the link unfragmented, over each IP version that has addresses."""
    sizes = {lab.expectations.link.ip_version: lab.expectations.link.mtu}
    if pair.sender.declared.peer_address_ipv4 is not None:
        sizes[4] = ipv4_route_mtu(lab.expectations.link.mtu) or lab.expectations.link.mtu
    for version, mtu in sizes.items():
        _, peer = pair.sender.declared.endpoints(version)
        payload = mtu - IP_HEADER_BYTES[version] - 8
        done = pair.sender.remote.run(f"ping -c 3 -i 0.2 -W 5 -M do -s {payload} {peer}")
        assert done.status == 0, done.stdout + done.stderr
