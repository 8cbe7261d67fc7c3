# SPDX-License-Identifier: Apache-2.0
"""The inventory model: the project's labs load, and each planted fault is one line with file and key."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from pydantic import ValidationError
from tests import factories

from zclab.base.errors import UsageError
from zclab.base.paths import project_root
from zclab.kernel import config as kernel_config
from zclab.lab import connection, inventory
from zclab.lab.model import Lab
from zclab.plan import plan as plans

LABS = sorted(path.parent.name for path in (project_root() / "inventory").glob("*/hosts.yml"))
Edit = Callable[[Any], None]


class Inventory:
    """A copy of a lab's inventory that a test may damage."""

    def __init__(self, directory: Path, lab: str = "virtual") -> None:
        self.directory = directory / "inventory" / "mine"
        shutil.copytree(project_root() / "inventory" / lab, self.directory)

    def edit(self, file: str, path: str, value: Any) -> None:
        """Set what a dotted path of a file holds (`...` as value: remove it)."""
        *parents, last = path.split(".")

        def apply(data: Any) -> None:
            for key in parents:
                data = data[int(key)] if isinstance(data, list) else data.setdefault(key, {})
            if value is ...:
                del data[last]
            else:
                data[last] = value

        self.edit_with(file, apply)

    def edit_with(self, file: str, change: Edit) -> None:
        """Change what a file holds."""
        path = self.directory / file
        data = json.loads(json.dumps(factories.read_yaml(path)))  # nothing shared by anchors
        change(data)
        path.write_text(yaml.safe_dump(data), encoding="utf-8")

    def load(self) -> Lab:
        """Load it as the code would, but for the cost of Ansible."""
        return inventory.parse(self.directory, factories.listing(self.directory))

    def problem(self) -> str:
        """Return the one line that refuses it."""
        with pytest.raises(UsageError) as caught:
            self.load()
        message = str(caught.value)
        assert len(message.splitlines()) == 1
        assert caught.value.exit_code == 2
        return message


@pytest.fixture
def mine(tmp_path: Path) -> Inventory:
    return Inventory(tmp_path)


# -------------------------------------------------------------------------------------------------- healthy


def test_both_labs_are_there() -> None:
    assert {"virtual", "connectx3"} <= set(LABS)


@pytest.mark.parametrize("name", LABS)
def test_a_lab_of_the_project_loads_through_ansible(name: str) -> None:
    lab = inventory.load(name)
    sender, receiver = lab.pair()
    assert lab.name == name
    assert (sender.role, receiver.role) == ("sender", "receiver")
    assert (sender.peer, sender.peer_address) == (receiver.name, receiver.ip)
    assert (receiver.peer, receiver.peer_address) == (sender.name, sender.ip)
    assert (lab.expectations.link.mtu, lab.expectations.link.mss) == (4168, 4096)
    # The shortcut that the other tests take reads the same as Ansible.
    directory = project_root() / "inventory" / name
    listed = inventory._ansible_inventory(directory)
    for host, variables in factories.listing(directory)["_meta"]["hostvars"].items():
        assert listed["_meta"]["hostvars"][host] == variables
    assert lab == factories.lab(name)


def test_limits_that_zero_copy_needs() -> None:
    for name in LABS:
        limits = factories.lab(name).limits
        assert limits.sysctls["net.core.optmem_max"] == 1048576
        assert limits.sysctls["net.ipv4.tcp_timestamps"] == 1
        assert limits.sysctls["net.ipv4.tcp_mtu_probing"] == 0


def test_the_emulated_lab_declares_what_it_must_reach() -> None:
    validity = factories.lab("virtual").expectations.validity
    assert validity.mapped_fraction["map_once"]["copy"].at_least == 0.99
    assert validity.mapped_fraction["map_once"]["zerocopy"].at_least == 0.97
    assert validity.copied_fraction.at_most == 0
    assert validity.retransmitted_share_at_most == 0.001


def test_mtu_follows_from_the_ip_version(mine: Inventory) -> None:
    mine.edit("group_vars/all/link.yml", "zclab_link.ip_version", 4)
    mine.edit("hosts.yml", "senders.hosts.sender1.zclab_data_address", "192.0.2.1/24")
    mine.edit("hosts.yml", "receivers.hosts.receiver1.zclab_data_address", "192.0.2.2/24")
    assert "is one too many: the link is IPv4 already: leave it out" in mine.problem()
    for host in ("senders.hosts.sender1", "receivers.hosts.receiver1"):
        mine.edit("hosts.yml", f"{host}.zclab_data_address_ipv4", ...)
    assert mine.load().expectations.link.mtu == 4148
    assert mine.load().hosts[0].endpoints(4) == ("192.0.2.1", "192.0.2.2")
    with pytest.raises(UsageError, match="has no IPv6 data address: declare zclab_data_address for both"):
        mine.load().hosts[0].endpoints(6)


def test_second_addresses_for_ipv4(mine: Inventory) -> None:
    sender, receiver = mine.load().pair()
    assert sender.endpoints(6) == ("fd5a:6c61:62:1::1", "fd5a:6c61:62:1::2")
    assert sender.endpoints(4) == ("198.18.1.1", "198.18.1.2")
    assert receiver.endpoints(4) == ("198.18.1.2", "198.18.1.1")
    for host in ("senders.hosts.sender1", "receivers.hosts.receiver1"):
        mine.edit("hosts.yml", f"{host}.zclab_data_address_ipv4", ...)
    with pytest.raises(UsageError, match="has no IPv4 data address: declare zclab_data_address_ipv4"):
        mine.load().pair()[0].endpoints(4)


def test_a_namespaces_lab_boots_no_kernel() -> None:
    lab = factories.lab("namespaces")
    assert (lab.kernel_variant, lab.kernel_variants, lab.facts()["kernel"]) == (None, {}, None)
    assert lab.expectations.shared_cpu
    assert not factories.lab("virtual").expectations.shared_cpu


def test_several_pages_a_segment(mine: Inventory) -> None:
    mine.edit("group_vars/all/link.yml", "zclab_link.mtu", 2 * 4096 + 72)
    assert mine.load().expectations.link.mss == 8192


def test_a_kernel_brings_the_memory_it_needs() -> None:
    lab = factories.lab("virtual")
    assert lab.facts()["virtual"]["memory_mib"] == 384
    debug = lab.kernel_variants["full-debug"].memory_mib
    assert lab.facts("full-debug")["virtual"]["memory_mib"] == debug != 384
    assert lab.with_kernel("full-debug").facts()["virtual"]["memory_mib"] == debug
    assert lab.with_kernel(None) is lab
    with pytest.raises(UsageError, match="virtual: no kernel variant is called 'mine': stock, "):
        lab.with_kernel("mine")


def test_only_exact_labs_count_instructions() -> None:
    assert factories.lab("exact").expectations.counts_instructions
    assert factories.lab("exact-e1000e").expectations.counts_instructions
    assert not factories.lab("virtual").expectations.counts_instructions
    assert not factories.lab("connectx3").expectations.counts_instructions


def test_facts_hold_what_roles_read() -> None:
    facts = factories.lab("virtual").facts()
    assert facts["expectations"]["link"] == {"ip_version": 6, "mtu": 4168, "speed_mbps": None}
    assert facts["kernel"]["variant"] == "full"
    assert facts["kernel_variants"]["stock"]["source"]["kind"] == "debian"
    assert {"name", "kind", "lab_dir", "state_dir", "hosts", "limits"} <= set(facts)
    assert facts["host_by_name"]["receiver1"]["peer_address"] == "fd5a:6c61:62:1::1"
    assert facts["host_by_name"]["receiver1"]["tuning"]["offloads"]


def test_low_water_of_exactly_half_is_got(mine: Inventory) -> None:
    _limits(mine, "net.ipv4.tcp_rmem", "4096 131072 1048576")
    assert mine.load().limits.rcvlowat_bytes == 524288


@pytest.mark.parametrize("name", LABS)
@pytest.mark.parametrize("place", ["project", "inventory/renamed", "renamed"])
def test_state_directory_is_the_one_that_ssh_options_name(name: str, place: str, tmp_path: Path) -> None:
    """The rule stands twice, in Python and in Jinja: both have to say the same."""
    directory = project_root() / "inventory" / name
    if place != "project":
        directory = Path(shutil.copytree(directory, tmp_path / "a" / place))
    lab = inventory.parse(directory, factories.listing(directory))
    if lab.traits.one_guest:
        assert "ansible_ssh_common_args" not in (directory / "group_vars/all/lab.yml").read_text("utf-8")
        return
    environment = jinja2.Environment(autoescape=True)
    environment.filters |= {"basename": os.path.basename, "dirname": os.path.dirname}
    options = factories.read_yaml(directory / "group_vars/all/lab.yml")["ansible_ssh_common_args"]
    rendered = environment.from_string(options).render(inventory_dir=str(directory))
    flag, config = shlex.split(rendered)
    assert flag == "-F"
    assert Path(config) == lab.state_dir / "ssh_config"
    beside = directory.parents[place != "renamed"]
    assert lab.state_dir == beside / ".zclab" / directory.name


# --------------------------------------------------------------------------------------------------- faults

ALL = "group_vars/all"
HOSTS = project_root() / "inventory" / "virtual" / "hosts.yml"
#: file to damage, path in it, value (...: removed); then the file and key that the line has to name, and a
#: word of it.
FAULTS: dict[str, tuple[str, str, Any, str, str, str]] = {
    "unknown key": (f"{ALL}/lab.yml", "zclab_mtu", 9000, f"{ALL}/lab.yml", "zclab_mtu", "unknown key"),
    "unknown key of a host": (
        "hosts.yml",
        "senders.hosts.sender1.zclab_adress",
        "x",
        "hosts.yml",
        "zclab_adress",
        "unknown key",
    ),
    "unknown key inside": (
        f"{ALL}/link.yml",
        "zclab_link.jumbo",
        True,
        f"{ALL}/link.yml",
        "zclab_link.jumbo",
        "unknown key",
    ),
    "unknown key deep inside": (
        f"{ALL}/expect.yml",
        "zclab_validity.mapped_fraction.map_once.copy.atleast",
        0.9,
        f"{ALL}/expect.yml",
        "zclab_validity.mapped_fraction.map_once.copy.atleast",
        "unknown key",
    ),
    "unknown tuning key": (
        "group_vars/receivers.yml",
        "zclab_tuning.ring",
        4096,
        "group_vars/receivers.yml",
        "zclab_tuning.ring",
        "unknown key",
    ),
    "unknown receive mode": (
        f"{ALL}/expect.yml",
        "zclab_validity.mapped_fraction.map_twice",
        {"copy": {"at_least": 0.9}},
        f"{ALL}/expect.yml",
        "zclab_validity.mapped_fraction.map_twice",
        "map_once",
    ),
    "no limits": (f"{ALL}/limits.yml", "zclab_limits", ..., "mine", "zclab_limits", "missing"),
    "limits that are none": (
        f"{ALL}/limits.yml",
        "zclab_limits",
        5,
        f"{ALL}/limits.yml",
        "zclab_limits",
        "not 5",
    ),
    "no rcvlowat": (
        f"{ALL}/limits.yml",
        "zclab_limits.rcvlowat_bytes",
        ...,
        f"{ALL}/limits.yml",
        "zclab_limits.rcvlowat_bytes",
        "missing",
    ),
    "no kind": (f"{ALL}/lab.yml", "zclab_kind", ..., "mine", "zclab_kind", "declare it in group_vars/all"),
    "a list of kinds": (
        f"{ALL}/lab.yml",
        "zclab_kind",
        ["virtual"],
        f"{ALL}/lab.yml",
        "zclab_kind",
        "'virtual', 'namespaces', 'hardware' or 'exact'",
    ),
    "no smallest effect": (
        f"{ALL}/expect.yml",
        "zclab_smallest_effect",
        ...,
        "mine",
        "zclab_smallest_effect",
        "declare it in group_vars/all",
    ),
    "a smallest effect of more than everything": (
        f"{ALL}/expect.yml",
        "zclab_smallest_effect",
        2,
        f"{ALL}/expect.yml",
        "zclab_smallest_effect",
        "less than 1, not 2",
    ),
    "expectations as one key": (
        f"{ALL}/expect.yml",
        "zclab_expectations",
        {"smallest_effect": 0.1},
        f"{ALL}/expect.yml",
        "zclab_expectations",
        "unknown key",
    ),
    "no link": (f"{ALL}/link.yml", "zclab_link", ..., "mine", "zclab_link", "missing"),
    "no ip version": (
        f"{ALL}/link.yml",
        "zclab_link",
        {"mtu": 4168},
        f"{ALL}/link.yml",
        "zclab_link.ip_version",
        "missing",
    ),
    "no pair number": (
        "hosts.yml",
        "senders.hosts.sender1.zclab_pair",
        ...,
        "hosts.yml",
        "zclab_pair",
        "sender1",
    ),
    "no receiver": ("hosts.yml", "receivers.hosts", {}, "hosts.yml", "receivers", "no receiver"),
    "no sender group": ("hosts.yml", "senders", ..., "mine", "senders", "no sender"),
    "a host in neither group": (
        "hosts.yml",
        "spectators",
        {"hosts": {"other1": {"zclab_pair": 1}}},
        "hosts.yml",
        "other1",
        "neither",
    ),
    "a pair without sender": (
        "hosts.yml",
        "receivers.hosts.receiver1.zclab_pair",
        2,
        "hosts.yml",
        "zclab_pair",
        "exactly one sender and one receiver",
    ),
    "two receivers in a pair": (
        "hosts.yml",
        "receivers.hosts.receiver2",
        {"zclab_pair": 1, "zclab_data_interface": "data0", "zclab_data_address": "fd5a:6c61:62:1::3/64"},
        "hosts.yml",
        "zclab_pair",
        "exactly one sender and one receiver",
    ),
    "an MTU of no whole page": (
        f"{ALL}/link.yml",
        "zclab_link.mtu",
        9000,
        f"{ALL}/link.yml",
        "zclab_link",
        "8928 bytes",
    ),
    "the usual MTU": (f"{ALL}/link.yml", "zclab_link.mtu", 1500, f"{ALL}/link.yml", "zclab_link", "4168"),
    "the MTU of IPv4 over IPv6": (
        f"{ALL}/link.yml",
        "zclab_link.mtu",
        4148,
        f"{ALL}/link.yml",
        "zclab_link",
        "whole pages over IPv4, but ip_version is 6",
    ),
    "the MTU of IPv6 over IPv4": (
        f"{ALL}/link.yml",
        "zclab_link",
        {"ip_version": 4, "mtu": 4168},
        f"{ALL}/link.yml",
        "zclab_link",
        "whole pages over IPv6, but ip_version is 4",
    ),
    "an IP version that does not exist": (
        f"{ALL}/link.yml",
        "zclab_link",
        {"ip_version": 5, "mtu": 4168},
        f"{ALL}/link.yml",
        "zclab_link.ip_version",
        "5",
    ),
    "addresses of the other family": (
        f"{ALL}/link.yml",
        "zclab_link.ip_version",
        4,
        "hosts.yml",
        "zclab_data_address",
        "IPv6",
    ),
    "one address for both": (
        "hosts.yml",
        "senders.hosts.sender1.zclab_data_address",
        "fd5a:6c61:62:1::2/64",
        "hosts.yml",
        "zclab_data_address",
        "same address",
    ),
    "a peer outside of the network": (
        "hosts.yml",
        "receivers.hosts.receiver1.zclab_data_address",
        "fd5a:6c61:62:2::2/64",
        "hosts.yml",
        "zclab_data_address",
        "not in the network",
    ),
    "no address": (
        "hosts.yml",
        "senders.hosts.sender1.zclab_data_address",
        "first",
        "hosts.yml",
        "zclab_data_address",
        "first",
    ),
    "no prefix length": (
        "hosts.yml",
        "senders.hosts.sender1.zclab_data_address",
        "fd5a:6c61:62:1::1",
        "hosts.yml",
        "zclab_data_address",
        "prefix length",
    ),
    "a low-water mark that the kernel caps": (
        f"{ALL}/limits.yml",
        "zclab_limits.rcvlowat_bytes",
        8388609,
        f"{ALL}/limits.yml",
        "zclab_limits",
        "tcp_rmem",
    ),
    "a key by its old name": (
        f"{ALL}/limits.yml",
        "zclab_limits.receive_low_water_bytes",
        524288,
        f"{ALL}/limits.yml",
        "zclab_limits.receive_low_water_bytes",
        "this key is now called rcvlowat_bytes: rename it",
    ),
    "an unknown variant": (
        f"{ALL}/kernel.yml",
        "zclab_kernel_variant",
        "mine",
        f"{ALL}/kernel.yml",
        "zclab_kernel_variant",
        "no variant is called 'mine': full, ",
    ),
    "too little memory for a kernel": (
        f"{ALL}/kernel.yml",
        "zclab_kernel_variants.full-debug.memory_mib",
        64,
        f"{ALL}/kernel.yml",
        "zclab_kernel_variants.full-debug.memory_mib",
        "greater than or equal to 192",
    ),
    "a kernel for namespaces": (
        f"{ALL}/lab.yml",
        "zclab_kind",
        "namespaces",
        f"{ALL}/kernel.yml",
        "zclab_kernel_variant",
        "this machine's own kernel: leave it out",
    ),
    "no kernel": (
        f"{ALL}/kernel.yml",
        "zclab_kernel_variant",
        ...,
        "mine",
        "zclab_kernel_variant",
        "missing",
    ),
    "sysctls of a machine that hosts do not share": (
        f"{ALL}/limits.yml",
        "zclab_limits.machine_sysctls",
        {"net.core.rmem_max": 212992},
        f"{ALL}/limits.yml",
        "zclab_limits.machine_sysctls",
        "only network namespaces share sysctls",
    ),
    "a second address on one side only": (
        "hosts.yml",
        "senders.hosts.sender1.zclab_data_address_ipv4",
        ...,
        "hosts.yml",
        "zclab_data_address_ipv4",
        "sender1 has none",
    ),
    "a second address in another network": (
        "hosts.yml",
        "senders.hosts.sender1.zclab_data_address_ipv4",
        "198.18.2.1/30",
        "hosts.yml",
        "zclab_data_address_ipv4",
        "is not in the network of",
    ),
    "a second address that is not IPv4": (
        "hosts.yml",
        "senders.hosts.sender1.zclab_data_address_ipv4",
        "fd5a::1/64",
        "hosts.yml",
        "zclab_data_address_ipv4",
        "is not IPv4",
    ),
    "a kernel from nowhere": (
        f"{ALL}/kernel.yml",
        "zclab_kernel_variants.stock.source",
        {"kind": "cvs"},
        f"{ALL}/kernel.yml",
        "zclab_kernel_variants.stock.source",
        "cvs",
    ),
    "a virtual lab without sizes": (
        f"{ALL}/lab.yml",
        "zclab_virtual",
        ...,
        "mine",
        "zclab_virtual",
        "missing",
    ),
    "a virtual host without NIC": (
        "group_vars/senders.yml",
        "zclab_nic_model",
        ...,
        "group_vars/receivers.yml",
        "zclab_nic_model",
        "missing for sender1",
    ),
    "a NIC that does not exist": (
        "group_vars/receivers.yml",
        "zclab_nic_model",
        "rtl8139",
        "group_vars/receivers.yml",
        "zclab_nic_model",
        "rtl8139",
    ),
    "a lab of no kind": (f"{ALL}/lab.yml", "zclab_kind", "cloud", f"{ALL}/lab.yml", "zclab_kind", "cloud"),
    "a share above one": (
        f"{ALL}/expect.yml",
        "zclab_validity.copied_fraction.at_most",
        2,
        f"{ALL}/expect.yml",
        "zclab_validity.copied_fraction.at_most",
        "less than or equal to 1",
    ),
    "an empty range": (
        f"{ALL}/expect.yml",
        "zclab_validity.copied_fraction",
        {},
        f"{ALL}/expect.yml",
        "zclab_validity.copied_fraction",
        "at_least or at_most",
    ),
    "no share of retransmits": (
        f"{ALL}/expect.yml",
        "zclab_validity.retransmitted_share_at_most",
        ...,
        f"{ALL}/expect.yml",
        "zclab_validity.retransmitted_share_at_most",
        "missing",
    ),
    "an interface name that is too long": (
        "hosts.yml",
        "senders.hosts.sender1.zclab_data_interface",
        "a-very-long-interface-name",
        "hosts.yml",
        "zclab_data_interface",
        "pattern",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_one_line_naming_file_and_key(fault: str, mine: Inventory) -> None:
    file, path, value, named_file, key, word = FAULTS[fault]
    mine.edit(file, path, value)
    message = mine.problem()
    place = "mine" if named_file == "mine" else f"mine/{named_file}"
    assert message.startswith(f"{place}: {key}: ")
    assert word in message


THRESHOLD_FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no unit": ({"unit": None}, "zclab_thresholds.0.unit", "missing: declare it (ratio"),
    "the metric's unit on a ratio": ({"unit": "usec_per_mib"}, "zclab_thresholds.0", "is in 'ratio'"),
    "a ratio of one arm": ({"arm": "b"}, "zclab_thresholds.0", "is in 'usec_per_mib'"),
    "another metric's unit": (
        {"arm": "b", "metric": "gbit_per_s", "unit": "usec_per_mib"},
        "zclab_thresholds.0",
        "is in 'gbit_per_s'",
    ),
    "two bounds": ({"at_least": 0.1}, "zclab_thresholds.0", "exactly one of at_least and at_most"),
    "no bound": ({"at_most": None}, "zclab_thresholds.0", "exactly one of at_least and at_most"),
    "no claim": ({"claims": []}, "zclab_thresholds.0.claims", "at least 1"),
    "no such metric": ({"metric": "latency"}, "zclab_thresholds.0.metric", "latency"),
    "no comparison": ({"comparison": None}, "zclab_thresholds.0.comparison", "missing"),
    "an unknown key": ({"severity": "high"}, "zclab_thresholds.0.severity", "unknown key"),
}


@pytest.mark.parametrize("fault", THRESHOLD_FAULTS)
def test_faulty_threshold_is_one_line(fault: str, mine: Inventory) -> None:
    changes, key, word = THRESHOLD_FAULTS[fault]
    mine.edit(f"{ALL}/expect.yml", "zclab_thresholds", [factories.threshold(**changes)])
    message = mine.problem()
    assert message.startswith(f"mine/{ALL}/expect.yml: {key}: ")
    assert word in message


def test_a_lab_may_declare_no_threshold(mine: Inventory) -> None:
    mine.edit(f"{ALL}/expect.yml", "zclab_thresholds", ...)
    assert mine.load().expectations.thresholds == []


def test_expectations_hold_what_follows_from_other_keys() -> None:
    """Frozen and whole: what a manifest keeps of a lab is this object."""
    virtual, spaces = factories.lab("virtual"), factories.lab("namespaces")
    assert virtual.expectations.rcvlowat_bytes == virtual.limits.rcvlowat_bytes
    assert (virtual.expectations.shared_cpu, spaces.expectations.shared_cpu) == (False, True)
    with pytest.raises(ValidationError, match="frozen"):
        virtual.expectations.shared_cpu = True


def test_sound_thresholds_load(mine: Inventory) -> None:
    mine.edit(
        f"{ALL}/expect.yml",
        "zclab_thresholds",
        [
            factories.threshold(),
            factories.threshold(
                arm="b", metric="gbit_per_s", at_most=None, at_least=32.7, unit="gbit_per_s", paced=False
            ),
        ],
    )
    assert [one.unit for one in mine.load().expectations.thresholds] == ["ratio", "gbit_per_s"]


@pytest.mark.parametrize("wanted", ["4096 131072", "4096 131072 much"])
def test_tcp_rmem_is_three_numbers(mine: Inventory, wanted: str) -> None:
    _limits(mine, "net.ipv4.tcp_rmem", wanted)
    assert "net.ipv4.tcp_rmem needs three numbers" in mine.problem()


def _limits(mine: Inventory, sysctl: str, value: Any) -> None:
    mine.edit_with(f"{ALL}/limits.yml", lambda data: data["zclab_limits"]["sysctls"].update({sysctl: value}))


@pytest.mark.parametrize("key", ["zclab_link", "zclab_validity", "zclab_kernel_variant", "zclab_limits"])
def test_keys_of_the_lab_agree_on_all_hosts(mine: Inventory, key: str) -> None:
    mine.edit("hosts.yml", f"senders.hosts.sender1.{key}", "something else")
    message = mine.problem()
    assert f": {key}: differs between hosts" in message


def test_the_file_that_is_named_is_the_one_that_is_wrong(mine: Inventory) -> None:
    """Both groups say zclab_tuning: the line names the one with the fault."""
    mine.edit("group_vars/senders.yml", "zclab_tuning.ring", 4096)
    assert mine.problem().startswith("mine/group_vars/senders.yml: zclab_tuning.ring: ")


@pytest.mark.parametrize(
    ("address", "word"), [("first", "'first' is not an address"), ("192.0.2.2/24", "IPv4"), (7, "7")]
)
def test_address_of_the_second_host_is_checked_too(mine: Inventory, address: Any, word: str) -> None:
    mine.edit("hosts.yml", "receivers.hosts.receiver1.zclab_data_address", address)
    message = mine.problem()
    assert message.startswith("mine/hosts.yml: zclab_data_address: ")
    assert word in message


def test_one_address_spelled_in_two_ways(mine: Inventory) -> None:
    mine.edit("hosts.yml", "senders.hosts.sender1.zclab_data_address", "FD5A:6c61:62:1:0::2/64")
    assert "same address" in mine.problem()


def test_an_address_is_kept_as_hosts_print_it(mine: Inventory) -> None:
    """What `ip addr` prints is compared with it after each measurement."""
    mine.edit("hosts.yml", "senders.hosts.sender1.zclab_data_address", "FD5A:6c61:62:1:0::1/64")
    sender, receiver = mine.load().pair()
    assert sender.data_address == "fd5a:6c61:62:1::1/64"
    assert receiver.peer_address == "fd5a:6c61:62:1::1"


@pytest.mark.parametrize(
    ("file", "path", "value", "key"),
    [
        (f"{ALL}/limits.yml", "zclab_limits.locked_memory_kib", "lots", "zclab_limits.locked_memory_kib"),
        (
            f"{ALL}/kernel.yml",
            "zclab_kernel_variants.stock.source.package",
            "linux",
            "zclab_kernel_variants.stock.source.package",
        ),
        (
            f"{ALL}/kernel.yml",
            "zclab_kernel_variants.stock.patches",
            [{"file": ""}],
            "zclab_kernel_variants.stock.patches.0.file",
        ),
    ],
)
def test_the_key_is_the_inventorys_own(mine: Inventory, file: str, path: str, value: Any, key: str) -> None:
    """Names of the model's types are no keys."""
    mine.edit(file, path, value)
    assert mine.problem().startswith(f"mine/{file}: {key}: ")


def test_a_host_that_declares_nothing(tmp_path: Path) -> None:
    """ansible-inventory leaves out hosts without variables."""
    listing = {
        "_meta": {"hostvars": {}},
        "senders": {"hosts": ["sender1"]},
        "receivers": {"hosts": ["receiver1"]},
    }
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="missing"):
        inventory.parse(tmp_path / "mine", listing)


def test_a_pair_number_that_is_no_number(mine: Inventory) -> None:
    mine.edit("hosts.yml", "senders.hosts.sender1.zclab_pair", [1])
    assert ": zclab_pair: " in mine.problem()


def test_a_lab_has_a_first_pair(mine: Inventory) -> None:
    """Runs measure pair 1."""
    for group, host in (("senders", "sender1"), ("receivers", "receiver1")):
        mine.edit("hosts.yml", f"{group}.hosts.{host}.zclab_pair", 2)
    assert ": zclab_pair: " in mine.problem()


def test_timestamps_that_are_switched_off_carry_no_whole_page(mine: Inventory) -> None:
    _limits(mine, "net.ipv4.tcp_timestamps", 0)
    assert "tcp_timestamps" in mine.problem()


# ------------------------------------------------------------------------------------- what Ansible refuses


def test_no_such_lab() -> None:
    with pytest.raises(UsageError) as caught:
        inventory.load("nosuchlab")
    assert str(caught.value).startswith("nosuchlab: no such lab: name one of ")
    assert "virtual" in str(caught.value)


def test_an_inventory_that_is_no_yaml(mine: Inventory) -> None:
    (mine.directory / "group_vars/all/lab.yml").write_text("zclab_kind: [virtual\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        inventory.load(mine.directory)
    assert len(str(caught.value).splitlines()) == 1
    assert "lab.yml" in str(caught.value)


# -------------------------------------------------------------- what only Ansible would obey, or nobody

#: Settings of Ansible, each in a value that changes how it connects, and a word of the advice.
ONLY_ANSIBLE: dict[str, tuple[Any, str]] = {
    "ansible_ssh_private_key_file": ("~/.ssh/lab", "ssh-add"),
    "ansible_private_key_file": ("~/.ssh/lab", "ssh-add"),
    "ansible_ssh_extra_args": ("-J jump.example", "leave it out"),
    "ansible_ssh_args": ("-J jump.example", "leave it out"),
    "ansible_ssh_executable": ("/opt/ssh", "leave it out"),
    "ansible_ssh_host": ("192.0.2.7", "leave it out"),
    "ansible_ssh_user": ("admin", "leave it out"),
    "ansible_ssh_port": (2222, "leave it out"),
    "ansible_ssh_pass": ("secret", "leave it out"),
    "ansible_password": ("secret", "leave it out"),
    "ansible_ssh_host_key_checking": (False, "leave it out"),
    "ansible_host_key_checking": (False, "leave it out"),
    "ansible_ssh_transfer_method": ("scp", "leave it out"),
    "ansible_connection": ("local", "leave it out"),
    "ansible_become": (True, "set ansible_user to root"),
    "ansible_become_method": ("su", "set ansible_user to root"),
    "ansible_become_password": ("secret", "set ansible_user to root"),
    "ansible_become_pass": ("secret", "set ansible_user to root"),
    "ansible_python_interpreter": ("/opt/python", "leave it out"),
    "ansible_shell_type": ("csh", "leave it out"),
    "ansible_remote_tmp": ("/nowhere", "leave it out"),
    "ansible_async_dir": ("/nowhere", "leave it out"),
    "ansible_pipelining": (False, "leave it out"),
    "ansible_timeout": (1, "leave it out"),
}


@pytest.mark.parametrize("lab", ["virtual", "connectx3", "namespaces"])
@pytest.mark.parametrize("key", ONLY_ANSIBLE)
def test_what_only_ansible_obeys_is_refused_by_name(key: str, lab: str, tmp_path: Path) -> None:
    mine = Inventory(tmp_path, lab)
    value, word = ONLY_ANSIBLE[key]
    mine.edit("group_vars/all/lab.yml", key, value)
    message = mine.problem()
    assert message.startswith(f"mine/group_vars/all/lab.yml: {key}: only Ansible obeys it: ")
    assert word in message


@pytest.mark.parametrize(
    "value",
    [
        '-F "{{ inventory_dir }}/ssh_config"',
        f"{connection.OWN_SSH_ARGS} -J jump.example",
        "-o ProxyCommand='ssh jump.example -W %h:%p'",
        None,
        "",
    ],
)
def test_options_of_ssh_are_the_labs_own(value: str | None, mine: Inventory) -> None:
    mine.edit("group_vars/all/lab.yml", connection.SSH_ARGS, value)
    message = mine.problem()
    assert message.startswith(f"mine/group_vars/all/lab.yml: {connection.SSH_ARGS}: has to name the lab's")
    assert message.endswith(f"set it to {connection.OWN_SSH_ARGS}")


def test_without_the_labs_ssh_config_ansible_would_go_its_own_way(mine: Inventory) -> None:
    mine.edit("group_vars/all/lab.yml", connection.SSH_ARGS, ...)
    assert f"{connection.SSH_ARGS}: missing: Ansible would not use the lab's ssh_config" in mine.problem()


#: A setting of one host of a hardware lab, and a word of the refusal; null: it works.
REACHED: list[tuple[str, Any, str | None]] = [
    ("ansible_host", "cx3-sender1", None),
    ("ansible_host", "192.0.2.7", None),
    ("ansible_host", "2001:db8::7", None),
    ("ansible_host", "fe80::1%eth0", "link-local"),
    ("ansible_host", "fe80::1", "link-local"),
    ("ansible_host", "%h", "not a name or an address"),
    ("ansible_host", "a host", "not a name or an address"),
    ("ansible_host", "-oProxyCommand=true", "not a name or an address"),
    ("ansible_host", "192.0.2.300", "not a name or an address"),
    ("ansible_host", "192.0.2.7:2222", "not a name or an address"),
    ("ansible_host", "root@192.0.2.7", "not a name or an address"),
    ("ansible_host", "", "not a name or an address"),
    ("ansible_host", 7, "put it in quotes"),
    ("ansible_host", None, "put it in quotes"),
    ("ansible_host", "0.0.0.0", "not the address of a host"),
    ("ansible_host", "ff02::1", "not the address of a host"),
    ("ansible_host", "{{ inventory_hostname }}.example", "does not evaluate: write the value itself"),
    ("ansible_host", "198.18.1.2", "is the data address of cx3-receiver1: SSH needs"),
    ("ansible_host", "fd5a:6c61:62:1::1", "is the data address of cx3-sender1: SSH needs"),
    ("ansible_host", "cx3-receiver1.example", "are both cx3-receiver1.example port 22"),
    ("ansible_user", "admin", None),
    ("ansible_user", "{{ lookup('env', 'USER') }}", "does not evaluate: write the value itself"),
    ("ansible_user", "a user", "not the name of a user"),
    ("ansible_user", "%u", "not the name of a user"),
    ("ansible_user", "", "not the name of a user"),
    ("ansible_user", None, "not the name of a user"),
    ("ansible_port", 2222, None),
    ("ansible_port", 0, "a number from 1 to 65535"),
    ("ansible_port", 65536, "a number from 1 to 65535"),
    ("ansible_port", True, "a number from 1 to 65535"),
    ("ansible_port", "22", "a number from 1 to 65535"),
    ("ansible_port", "{{ 22 }}", "does not evaluate: write the value itself"),
]


@pytest.mark.parametrize(("key", "value", "word"), REACHED)
def test_how_a_hardware_host_is_reached(key: str, value: Any, word: str | None, tmp_path: Path) -> None:
    mine = Inventory(tmp_path, "connectx3")
    mine.edit("hosts.yml", f"senders.hosts.cx3-sender1.{key}", value)
    if word is None:
        assert getattr(mine.load().hosts[0], key.removeprefix("ansible_").replace("host", "address")) == value
    else:
        message = mine.problem()
        assert message.startswith(f"mine/hosts.yml: {key}: ") and word in message


@pytest.mark.parametrize("lab", ["virtual", "namespaces"])
@pytest.mark.parametrize(
    ("key", "value"), [("ansible_host", "192.0.2.7"), ("ansible_port", 2222), ("ansible_user", "admin")]
)
def test_zclab_knows_where_the_hosts_that_it_makes_answer(
    key: str, value: Any, lab: str, tmp_path: Path
) -> None:
    mine = Inventory(tmp_path, lab)
    mine.edit("hosts.yml", f"senders.hosts.sender1.{key}", value)
    assert mine.problem().startswith(f"mine/hosts.yml: {key}: ")


@pytest.mark.parametrize("name", ["localhost", "a*", "a host", "-a", "a%b", "a\nb"])
def test_a_name_that_ssh_or_ansible_takes_for_something_else(name: str, mine: Inventory) -> None:
    mine.edit("hosts.yml", "senders.hosts", {name: factories.read_yaml(HOSTS)["senders"]["hosts"]["sender1"]})
    with pytest.raises(UsageError, match="cannot be the name of a host"):
        mine.load()


@pytest.mark.parametrize(
    ("file", "path", "value", "place"),
    [
        ("hosts.yml", "senders.hosts.sender1.zclab_data_address", "{{ x }}", "zclab_data_address"),
        ("hosts.yml", "senders.hosts.sender1.zclab_pair", "{{ 1 }}", "zclab_pair"),
        (f"{ALL}/lab.yml", "zclab_plan", "{% if x %}a{% endif %}", "zclab_plan"),
        (f"{ALL}/link.yml", "zclab_link.mtu", "{{ mtu }}", "zclab_link.mtu"),
        (f"{ALL}/limits.yml", "zclab_limits.sysctls", {"net.x": "{{ x }}"}, "zclab_limits.sysctls.net.x"),
        ("group_vars/senders.yml", "zclab_traffic_cpus", [0, "{{ 1 }}"], "zclab_traffic_cpus.1"),
        (f"{ALL}/kernel.yml", "zclab_kernel_variant", {"__ansible_vault": "$"}, "zclab_kernel_variant"),
    ],
)
def test_jinja_is_refused_by_the_name_of_its_key(
    file: str, path: str, value: Any, place: str, mine: Inventory
) -> None:
    mine.edit(file, path, value)
    text = "Ansible would evaluate it, zclab does not: write the value itself (no Jinja, no vault)"
    assert mine.problem() == f"mine/{file}: {place}: {text}"


#: A data address of the sender that no connection to the receiver can have, and a word of the refusal.
SIX, FOUR = "zclab_data_address", "zclab_data_address_ipv4"
UNUSABLE = [
    (SIX, "fd5a:6c61:62:1::/64", "that of all routers of the network"),
    (SIX, "fd5a:6c61:62:1::2/64", "same address"),
    (SIX, "fd5a:6c61:62:1::1/128", "leaves no room for the peer"),
    (SIX, "fd5a:6c61:62:1::1/129", "not an address with prefix length"),
    (SIX, "fd5a:6c61:62:1::1%eth0/64", "not an address with prefix length"),
    (SIX, "fe80::1/64", "needs a zone"),
    (SIX, "ff02::1/64", "not the address of a host on a link"),
    (SIX, "::1/64", "not the address of a host on a link"),
    (SIX, "::/64", "not the address of a host on a link"),
    (SIX, "::ffff:198.18.1.1/126", "stands for an IPv4 address"),
    (FOUR, "198.18.1.0/30", "is the network's own"),
    (FOUR, "198.18.1.3/30", "is the broadcast address"),
    (FOUR, "198.18.1.2/30", "same address"),
    (FOUR, "198.18.1.1/32", "leaves no room for the peer"),
    (FOUR, "198.18.1.1/33", "not an address with prefix length"),
    (FOUR, "198.18.1.1", "not an address with prefix length"),
    (FOUR, "224.0.0.1/24", "not the address of a host on a link"),
    (FOUR, "127.0.0.1/8", "not the address of a host on a link"),
    (FOUR, "0.0.0.0/0", "not the address of a host on a link"),
    (FOUR, "0.1.2.3/8", "is reserved"),
    (FOUR, "240.0.0.1/8", "is reserved"),
]


@pytest.mark.parametrize(("key", "address", "word"), UNUSABLE)
def test_an_address_that_cannot_work_is_refused(key: str, address: str, word: str, mine: Inventory) -> None:
    mine.edit("hosts.yml", f"senders.hosts.sender1.{key}", address)
    message = mine.problem()
    assert message.startswith(f"mine/hosts.yml: {key}: ") and word in message


def test_networks_of_two_addresses_have_none_of_their_own(mine: Inventory) -> None:
    for group, host, number in (("senders", "sender1", 0), ("receivers", "receiver1", 1)):
        mine.edit("hosts.yml", f"{group}.hosts.{host}.{FOUR}", f"198.18.1.{number}/31")
        mine.edit("hosts.yml", f"{group}.hosts.{host}.{SIX}", f"fd5a::{number}/127")
    assert mine.load().hosts[0].data_address == "fd5a::/127"


def test_an_address_is_that_of_one_host_in_all_pairs(mine: Inventory) -> None:
    hosts = factories.read_yaml(HOSTS)
    for group, name in (("senders", "sender1"), ("receivers", "receiver1")):
        copied = {**hosts[group]["hosts"][name], "zclab_pair": 2}
        mine.edit("hosts.yml", f"{group}.hosts.{name}-b", copied)
    assert "have the same address" in mine.problem()


@pytest.mark.parametrize("lab", ["connectx3", "namespaces"])
@pytest.mark.parametrize(
    ("file", "path", "value"),
    [
        (f"{ALL}/lab.yml", "zclab_virtual", {"memory_mib": 384, "disk_mib": 3072}),
        ("group_vars/senders.yml", "zclab_nic_model", "e1000e"),
        ("group_vars/senders.yml", "zclab_ssh_port", 2222),
    ],
)
def test_what_only_virtual_hosts_have_is_refused_elsewhere(
    file: str, path: str, value: Any, lab: str, tmp_path: Path
) -> None:
    mine = Inventory(tmp_path, lab)
    (mine.directory / file).touch()
    mine.edit(file, path, value)
    assert mine.problem().startswith(f"mine/{file}: {path}: ")


@pytest.mark.parametrize("name", inventory.names())
def test_every_mapping_arm_of_a_main_job_has_bounds(name: str) -> None:
    """Without them each of its measurements would be invalid."""
    lab = factories.lab(name)
    plan = plans.of_lab(lab)
    bounds = lab.expectations.validity.mapped_fraction
    for one in plan.comparisons:
        for arm in (one.a, one.b):
            if arm.receive_mode != "copy":
                assert arm.send_mode in bounds[arm.receive_mode], (one.name, arm)
    if any(
        kernel_config.asks_for(one.config, "CONFIG_TCP_MMAP_CONSUME") for one in lab.kernel_variants.values()
    ):
        assert any(bound.at_least is not None for bound in bounds["map_each"].values())


def test_reasons_for_what_is_not_gated_judge_nothing() -> None:
    lab = factories.lab("virtual")
    assert lab.expectations.not_gated["F6"]
    assert set(lab.expectations.not_gated) == {f"F{number}" for number in range(1, 11)}
