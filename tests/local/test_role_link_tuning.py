# SPDX-License-Identifier: Apache-2.0
"""Role link_tuning: what ethtool prints, and the module itself on a veth pair in a network namespace."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.role_modules import load, run_module

ethtool = load("link_tuning/module_utils/zclab_ethtool.py")
link = load("link_tuning/library/zclab_link.py")
DATA = Path(__file__).parents[1] / "data/roles"
MODULE = "link_tuning/library/zclab_link.py"


# What ethtool prints


def test_features() -> None:
    features = ethtool.parse_features((DATA / "ethtool-k.txt").read_text(encoding="utf-8"))
    assert features["tcp-segmentation-offload"] == {"on": True, "wanted": True, "fixed": False, "group": True}
    assert features["tx-tcp-segmentation"]["group"] is False
    assert features["large-receive-offload"] == {"on": False, "wanted": False, "fixed": True, "group": False}
    assert features["generic-segmentation-offload"]["wanted"] is True
    assert features["generic-segmentation-offload"]["on"] is False


def test_offloads_that_differ() -> None:
    features = ethtool.parse_features((DATA / "ethtool-k.txt").read_text(encoding="utf-8"))
    declared = {"tso": False, "gro": True, "rx": True, "lro": False, "tx-nocache-copy": "on"}
    assert ethtool.offload_changes(declared, features, "h: eth0") == {
        "tcp-segmentation-offload": False,
        "tx-nocache-copy": True,
    }


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"lro": True}, "h: eth0: its driver fixes offload lro to off"),
        ({"warp": True}, "h: eth0: it has no offload warp"),
        ({"tso": "maybe"}, "offload tso: 'maybe' is neither true nor false"),
    ],
)
def test_offloads_that_cannot_be(declared: dict[str, Any], said: str) -> None:
    features = ethtool.parse_features((DATA / "ethtool-k.txt").read_text(encoding="utf-8"))
    with pytest.raises(ethtool.RefusedError, match=said) as refusal:
        ethtool.offload_changes(declared, features, "h: eth0")
    assert "\n" not in str(refusal.value)


def test_queues() -> None:
    text = (
        "Channel parameters for eth0:\nPre-set maximums:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t8\n"
        "Current hardware settings:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t4\n"
    )
    channels = ethtool.parse_channels(text)
    assert channels == {"maximum": {"other": 1, "combined": 8}, "current": {"other": 1, "combined": 4}}
    assert ethtool.queue_words(channels, 4, "eth0") == []
    assert ethtool.queue_words(channels, 8, "eth0") == ["combined", "8"]
    with pytest.raises(ethtool.RefusedError, match="at most 8 combined queues, not 9"):
        ethtool.queue_words(channels, 9, "eth0")


def test_coalescing() -> None:
    text = (
        "Coalesce parameters for eth0:\nAdaptive RX: on  TX: n/a\nstats-block-usecs:\tn/a\nrx-usecs:\t8\n"
        "rx-frames:\t0\ncqe-mode-rx:\toff\n"
    )
    assert ethtool.parse_coalescing(text) == {
        "adaptive-rx": True,
        "rx-usecs": 8,
        "rx-frames": 0,
        "cqe-mode-rx": False,
    }


def test_rings() -> None:
    text = (
        "Ring parameters for eth0:\nPre-set maximums:\nRX:\t4096\nTX:\t4096\n"
        "Current hardware settings:\nRX:\t256\nRX Mini:\tn/a\nRX Jumbo:\tn/a\nTX:\t512\nTX push:\toff\n"
    )
    assert ethtool.parse_rings(text) == {"rx": 256, "tx": 512}


# The module on a real interface


class Bench:
    """A network namespace with a veth pair of two queues: va is tuned, vb is its peer.

    directory: stands for the host's /var/lib.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.namespace = f"zclab-test-{uuid.uuid4().hex[:8]}"
        self.interface = f"va{uuid.uuid4().hex[:6]}"
        self.peer = self.interface.replace("va", "vb")
        self.ip("netns", "add", self.namespace, inside=False)
        queues = ["numtxqueues", "2", "numrxqueues", "2"]
        self.ip("link", "add", self.interface, *queues, "type", "veth", "peer", "name", self.peer, *queues)
        self.ip("link", "set", "dev", self.peer, "up")
        self.state_file = directory / f"zclab/link-{self.interface}.json"

    def run(self, *command: str) -> str:
        words = ["ip", "netns", "exec", self.namespace, *command]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def ip(self, *words: str, inside: bool = True) -> str:
        command = ["ip", *(["-n", self.namespace] if inside else []), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def shell(self, script: str) -> str:
        """Run lines of shell on the host; $DEV is the interface, $PEER its peer."""
        return self.run("sh", "-ec", f"DEV={self.interface} PEER={self.peer}\n{script}")

    def module(self, arguments: dict[str, Any], check: bool = False) -> dict[str, Any]:
        host = f'mount --bind {self.directory} /var/lib && exec "$@"'
        prefix = ("ip", "netns", "exec", self.namespace, "sh", "-c", host, "sh")
        return run_module(MODULE, arguments, *prefix, check=check)

    def tune(self, check: bool = False, **arguments: Any) -> dict[str, Any]:
        return self.module({"interface": self.interface, **arguments}, check)

    def restore(self, check: bool = False) -> dict[str, Any]:
        return self.module({"state": "restored"}, check)

    def everything(self) -> dict[str, Any]:
        """Return the whole state of the host's network.

        Left out is what the kernel makes by itself (link-local addresses, carrier, the first qdisc).
        """
        shown = json.loads(self.ip("-j", "-d", "addr", "show"))
        lifetimes = {}
        for one in shown:
            one["flags"] = "UP" in one["flags"]
            del one["operstate"], one["qdisc"]
            one["addr_info"] = [item for item in one["addr_info"] if item["scope"] != "link"]
            for item in one["addr_info"]:
                item.pop("tentative", None)
                for key in ("valid_life_time", "preferred_life_time"):
                    lifetimes[one["ifname"], item["local"], key] = item.pop(key)
        return {
            "lifetimes": lifetimes,
            **{one["ifname"]: one for one in shown},
            "-4": self._routes("-4"),
            "-6": self._routes("-6"),
            "rules": json.loads(self.ip("-j", "rule")),
            "sysctls": self.run("sysctl", "-a", "-r", f"^net[.]ipv[46][.](conf|neigh)[.]{self.interface}"),
            "ethtool": [
                self.run("sh", "-c", f"ethtool {option} {self.interface} 2>&1; true")
                for option in ("-k", "-l", "-c", "-g")
            ],
            "steering": self.run("sh", "-c", f"cat /sys/class/net/{self.interface}/queues/rx-*/rps_cpus"),
            "files": sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*")),
        }

    def _routes(self, family: str) -> list[str]:
        lines = self.ip(family, "-d", "route", "show", "table", "all").splitlines()
        kept = [line for line in lines if "fe80::" not in line.split(" via ")[0] and "ff00::" not in line]
        return sorted(re.sub(r" linkdown| dead| expires \d+sec", "", " ".join(line.split())) for line in kept)

    def close(self) -> None:
        subprocess.run(["ip", "netns", "del", self.namespace], check=False)


def changes(result: dict[str, Any]) -> list[str]:
    assert "changes" in result, result
    done: list[str] = result["changes"]
    return done


def same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """See that nothing differs; a lifetime may have run down by what the test took."""
    before, after = dict(before), dict(after)
    was, lifetimes = before.pop("lifetimes"), after.pop("lifetimes")
    for part in {*before, *after}:
        assert after.get(part) == before.get(part), part
    assert set(lifetimes) == set(was)
    for name, seconds in lifetimes.items():
        assert was[name] - 60 <= seconds <= was[name], name


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    made = Bench(tmp_path)
    try:
        yield made
    finally:
        made.close()


WANTED: dict[str, Any] = {
    "addresses": ["fd5a:6c61:63::1/64"],
    "receive_cpus": [0],
    "mtu": 4168,
    "offloads": {"tso": False, "gro": True, "lro": False},
    "queues": 2,
}


def test_apply_again_and_restore(bench: Bench) -> None:
    before = bench.everything()
    checked = bench.tune(check=True, **WANTED)
    assert checked["changed"]
    assert bench.everything() == before
    assert not bench.state_file.exists()

    first = bench.tune(**WANTED)
    assert first.get("changed"), first
    assert first["changes"] == checked["changes"]
    assert "mtu: 1500 -> 4168" in first["changes"]
    assert first["diff"]["prepared"].splitlines() == first["changes"]
    assert "fd5a:6c61:63::1/64" in bench.ip("addr", "show", "dev", bench.interface)
    assert "tentative" not in bench.ip("addr", "show", "dev", bench.interface, "scope", "global")
    saved = bench.state_file.read_text(encoding="utf-8")
    assert first["state_file"] == f"/var/lib/zclab/{bench.state_file.name}"

    second = bench.tune(**WANTED)
    assert not second["changed"], second
    assert second["changes"] == []
    third = bench.tune(**{**WANTED, "mtu": 4148})
    assert third["changes"] == ["mtu: 4168 -> 4148"]
    assert bench.state_file.read_text(encoding="utf-8") == saved

    assert bench.restore(check=True)["changed"]
    assert bench.restore()["changed"]
    assert bench.everything() == before
    assert not bench.state_file.exists()
    assert not bench.restore()["changed"]


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (["ip", "link", "set", "dev", "{}", "mtu", "1500"], "mtu: 1500 -> 4168"),
        (["ip", "addr", "flush", "dev", "{}"], "address fd5a:6c61:63::1/64: absent -> present"),
        (["ethtool", "-K", "{}", "tso", "on"], "offload tcp-segmentation-offload: on -> off"),
        (["ethtool", "-L", "{}", "rx", "1"], "queues: rx 1 tx 2 -> rx 2"),
        (["ip", "link", "set", "dev", "{}", "down"], "link: down -> up"),
        (["sh", "-c", "echo 0 >/sys/class/net/{}/queues/rx-1/rps_cpus"], "receive CPUs: 0 1 -> 1"),
    ],
)
def test_a_planted_wrong_state_is_found(bench: Bench, plant: list[str], found: str) -> None:
    bench.tune(**WANTED)
    bench.run(*(word.replace("{}", bench.interface) for word in plant))
    assert found in bench.tune(check=True, **WANTED)["changes"]
    result = bench.tune(**WANTED)
    assert found in result.get("changes", []), result
    assert not bench.tune(**WANTED)["changed"]


PEERS: dict[str, Any] = {"addresses": ["10.99.2.1/24"], "ipv4_peers": ["10.99.2.2"], "mtu": 4168}


def test_ipv4_routes_carry_whole_pages(bench: Bench) -> None:
    """The peer gets a route of its own; those of the host stay, even one to the peer."""
    bench.shell("""
        ip addr add 10.99.1.1/24 dev $DEV; ip addr add 10.99.2.1/24 dev $DEV; ip link set dev $DEV up
        ip route add 10.99.7.0/24 via 10.99.1.9 dev $DEV; ip route add 10.99.2.2 dev $DEV advmss 900
    """)
    before = bench.everything()
    result = bench.tune(**PEERS)
    assert result["changes"] == ["mtu: 1500 -> 4168", "route to 10.99.2.2: absent -> mtu 4148"], result
    assert "cache mtu 4148" in bench.ip("-4", "-o", "route", "get", "10.99.2.2")
    assert set(before["-4"]) < set(bench.everything()["-4"])
    assert not bench.tune(**PEERS)["changed"]
    bench.restore()
    same(before, bench.everything())


def test_a_route_is_made_again_and_follows_the_mtu(bench: Bench) -> None:
    """Taking a link down and up costs it every route."""
    bench.tune(**PEERS)
    bench.shell("ip link set dev $DEV down; ip link set dev $DEV up")
    assert bench.tune(**PEERS)["changes"] == ["route to 10.99.2.2: absent -> mtu 4148"]
    assert bench.tune(**{**PEERS, "mtu": 8264})["changes"] == [
        "route to 10.99.2.2: mtu 4148 -> absent",
        "mtu: 4168 -> 8264",
        "route to 10.99.2.2: absent -> mtu 8244",
    ]
    assert bench.tune(**{**PEERS, "mtu": 4148})["changes"] == [
        "route to 10.99.2.2: mtu 8244 -> absent",
        "mtu: 8264 -> 4148",
    ]


def test_a_rule_that_goes_before_the_route_is_said(bench: Bench) -> None:
    bench.shell("ip rule add to 10.99.2.2 table 7 pref 10; ip route add 10.99.2.0/24 dev $PEER table 7")
    for _ in range(2):
        result = bench.tune(**PEERS)
        assert f"the route to 10.99.2.2 is through {bench.peer} with MTU of the link" in result["msg"]


#: Hosts that are not as a fresh installation: what was there, and what somebody did while the link was tuned.
ODD_HOSTS = {
    "routes with every metric": (
        """ip link set dev $DEV up; ip addr add 10.99.2.9/24 dev $DEV
        ip route add 10.1.0.0/16 dev $DEV advmss 1200 initcwnd 40 initrwnd 30 quickack 1 mtu lock 1400
        ip route add 10.2.0.0/16 via 10.77.0.1 dev $DEV onlink metric 50 window 9000 hoplimit 9
        ip route add 10.2.0.0/16 via 10.77.0.1 dev $DEV onlink metric 60 mtu 1300
        ip route add 10.99.2.2 dev $DEV initcwnd 7; ip route add 10.99.2.2 dev $DEV metric 5 features ecn
        ip route add 10.3.0.0/16 dev $DEV table 77; ip rule add to 10.3.0.0/16 table 77
        ip route add unreachable 10.4.0.0/16""",
        "",
    ),
    "IPv6 routes with MTUs": (
        """ip link set dev $DEV up; ip -6 route add fd00:1::/64 dev $DEV mtu 1500
        ip -6 route add fd00:2::/64 dev $DEV mtu lock 1500
        ip -6 route add fd00:3::/64 dev $DEV mtu 9000 metric 7
        ip -6 route add fd00:4::/64 via fe80::9 dev $DEV mtu 1300 table 77
        ip -6 route add fd00:5::/64 dev $DEV
        ip -6 route add fd5a:6c61:63::/64 dev $DEV metric 256""",
        "",
    ),
    "an MTU of IPv6 that a router announced": (
        "ip link set dev $DEV up; echo 1400 >/proc/sys/net/ipv6/conf/$DEV/mtu",
        "",
    ),
    "addresses with lifetimes": (
        """ip link set dev $DEV up
        ip addr add 10.99.2.5/24 dev $DEV valid_lft 3000 preferred_lft 2000 label $DEV:dhcp
        ip addr add 10.88.0.1/30 peer 10.88.0.2 dev $DEV scope link
        ip addr add fd5a:6c61:63::9/64 dev $DEV valid_lft 3000 preferred_lft 0 nodad
        ip addr add fd00:9::1/128 dev $DEV noprefixroute nodad""",
        "",
    ),
    "two addresses in one subnet": (
        "ip link set dev $DEV up; ip addr add 10.99.2.1/24 dev $DEV; ip addr add 10.99.2.3/24 dev $DEV",
        "",
    ),
    "leased later in the subnet of the lab": (
        "ip link set dev $DEV up",
        """ip addr add 10.99.2.7/24 dev $DEV valid_lft 3000 preferred_lft 2000
        ip addr add fd00:7::7/64 dev $DEV nodad""",
    ),
    "down, with an IPv6 address": (
        "ip addr add fd00:6::1/64 dev $DEV nodad; ip addr add 10.66.0.1/24 dev $DEV",
        "",
    ),
    "odd settings": (
        """ip link set dev $DEV up txqueuelen 17 alias mine; ip link set dev $DEV mtu 9000
        ethtool -K $DEV sg off gro on tso off rxvlan off; ethtool -L $DEV rx 1 tx 2
        echo 2 >/sys/class/net/$DEV/queues/rx-0/rps_cpus
        cd /proc/sys/net; echo 1 >ipv6/conf/$DEV/use_tempaddr; echo 0 >ipv6/conf/$DEV/accept_ra
        echo 1 >ipv4/conf/$DEV/promote_secondaries; echo 2 >ipv4/conf/$DEV/rp_filter""",
        "",
    ),
}
BOTH = {**WANTED, "addresses": ["fd5a:6c61:63::1/64", "10.99.2.1/24"], "ipv4_peers": ["10.99.2.2"]}


@pytest.mark.parametrize("host", ODD_HOSTS)
def test_an_odd_host_is_restored_exactly(bench: Bench, host: str) -> None:
    """Its whole state after tuning and restoring is the one of a host where only the meantime happened."""
    odd, meanwhile = ODD_HOSTS[host]
    bench.shell(odd)
    before = bench.everything()
    assert bench.tune(**BOTH).get("changed"), bench.tune(**BOTH)
    assert not bench.tune(**BOTH)["changed"]
    assert "cache mtu 4148" in bench.ip("-4", "-o", "route", "get", "10.99.2.2")
    bench.shell(meanwhile)
    planned = bench.restore(check=True)
    restored = bench.restore()
    assert restored.get("changed"), restored
    assert set(planned["changes"]) <= set(restored["changes"])
    after = bench.everything()
    if meanwhile:
        bench.shell("ip addr flush dev $DEV scope global")
        bench.shell(meanwhile)
        before = bench.everything()
    same(before, after)


def test_a_restore_names_what_does_not_go_back_and_puts_the_rest_back(bench: Bench) -> None:
    bench.tune(**BOTH)
    state = json.loads(bench.state_file.read_text(encoding="utf-8"))
    state["before"]["mtu"] = 70000
    bench.state_file.write_text(json.dumps(state), encoding="utf-8")
    result = bench.restore()
    assert f"{bench.interface}: mtu is 4168 and did not go back to 70000 (" in result["msg"]
    assert result["msg"].endswith(f"set it by hand, then remove /var/lib/zclab/{bench.state_file.name}")
    assert bench.state_file.exists()
    shown = bench.ip("addr", "show", "dev", bench.interface)
    assert "10.99.2.1" not in shown and "fd5a" not in shown and "UP" not in shown
    state["before"]["mtu"] = 1500
    bench.state_file.write_text(json.dumps(state), encoding="utf-8")
    assert bench.restore()["changes"] == ["mtu: 4168 -> 1500"]
    assert not bench.state_file.exists()


# Declared by mistake, and corrected


def test_addresses_that_are_no_longer_declared_go(bench: Bench) -> None:
    """The hosts' roles were swapped: each had the other's addresses."""
    bench.ip("addr", "add", "10.99.2.9/24", "dev", bench.interface)
    before = bench.everything()
    swapped = {"addresses": ["fd5a:6c61:63::2/64", "10.99.2.2/24"], "ipv4_peers": ["10.99.2.1"]}
    bench.tune(**{**BOTH, **swapped})
    assert set(changes(bench.tune(**BOTH))) == {
        "address fd5a:6c61:63::2/64: present -> absent",
        "address 10.99.2.2/24: present -> absent",
        "address fd5a:6c61:63::1/64: absent -> present",
        "address 10.99.2.1/24: absent -> present",
        "route to 10.99.2.1: mtu 4148 -> absent",
        "route to 10.99.2.2: absent -> mtu 4148",
    }
    assert not bench.tune(**BOTH)["changed"]
    bench.restore()
    same(before, bench.everything())


def test_an_address_that_the_host_had_stays(bench: Bench) -> None:
    bench.ip("addr", "add", "fd5a:6c61:63::2/64", "dev", bench.interface, "nodad")
    bench.tune(addresses=["fd5a:6c61:63::2/64"])
    bench.tune(addresses=["fd5a:6c61:63::1/64"])
    assert "fd5a:6c61:63::2/64" in bench.ip("addr", "show", "dev", bench.interface)


def test_settings_that_are_no_longer_declared_go_back(bench: Bench) -> None:
    bench.shell("ip link set dev $DEV up; ethtool -L $DEV rx 1; ethtool -K $DEV gro off")
    before = bench.everything()
    bench.tune(**WANTED)
    bench.shell("ethtool -K $DEV rxvlan off")  # somebody's own, and none of the role's business
    result = bench.tune(addresses=[], offloads={"gro": True})
    assert {line for line in changes(result) if not line.startswith("offload")} == {
        "address fd5a:6c61:63::1/64: present -> absent",
        "queues: rx 2 tx 2 -> rx 1",
        "mtu: 4168 -> 1500",
        "receive CPUs: 1 -> 0",
    }
    assert "offload tx-tcp-segmentation: off -> on" in result["changes"]
    assert not any("vlan" in line or "generic-receive" in line for line in result["changes"])
    assert not bench.tune(addresses=[], offloads={"gro": True})["changed"]
    bench.shell("ethtool -K $DEV rxvlan on")
    bench.restore()
    same(before, bench.everything())


def test_the_right_interface_after_a_wrong_one(bench: Bench) -> None:
    """The addresses move, the wrong interface is put back, and restoring knows both."""
    before = bench.everything()
    bench.module({**BOTH, "interface": bench.peer, "queues": 0})
    checked = bench.tune(check=True, **BOTH)
    result = bench.tune(**BOTH)
    assert result["changes"] == checked["changes"]
    assert f"{bench.peer}: address 10.99.2.1/24: present -> absent" in result["changes"]
    assert f"{bench.peer}: mtu: 4168 -> 1500" in result["changes"]
    assert "mtu 1500" in bench.ip("link", "show", "dev", bench.peer)
    bench.module({"interface": bench.peer, "mtu": 2000})
    assert {line.partition(":")[0] for line in bench.restore()["changes"]} == {bench.interface, bench.peer}
    same(before, bench.everything())


def test_a_state_of_another_version_is_refused(bench: Bench) -> None:
    bench.tune(**WANTED)
    state = json.loads(bench.state_file.read_text(encoding="utf-8"))
    bench.state_file.write_text(json.dumps({**state, "version": 1}), encoding="utf-8")
    for result in (bench.tune(**WANTED), bench.restore()):
        assert "another version of zclab saved /var/lib/zclab/link-" in result["msg"]


def test_state_of_another_boot_says_nothing(bench: Bench) -> None:
    bench.tune(**WANTED)
    state = json.loads(bench.state_file.read_text(encoding="utf-8"))
    bench.state_file.write_text(json.dumps({**state, "boot_id": "another"}), encoding="utf-8")
    tuned = bench.everything()
    assert not bench.restore()["changed"]
    assert bench.everything() == {**tuned, "files": []}

    bench.state_file.parent.mkdir(exist_ok=True)
    bench.state_file.write_text(json.dumps({**state, "ifindex": 0}), encoding="utf-8")
    bench.tune(**{**WANTED, "mtu": 4148})
    assert json.loads(bench.state_file.read_text(encoding="utf-8"))["before"]["mtu"] == 4168


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"interface": "nosuch0"}, "nosuch0: no such interface (there are: va"),
        ({"offloads": {"lro": True}}, "fixes offload lro to off"),
        ({"queues": 3}, "at most 2 rx queues, not 3"),
        ({"coalescing": {"rx-usecs": 8}}, "no coalescing setting rx-usecs"),
        ({"rings": {"rx": 8}}, "no ring setting rx"),
        ({"receive_cpus": [9999]}, "receive_cpus names CPU 9999, and the host has CPUs 0"),
        ({"ipv4_peers": ["10.99.2.2"], "mtu": 4168}, "the peer 10.99.2.2 is in the network of none"),
        (
            {"ipv4_peers": ["peer"], "mtu": 4168},
            "Expected 4 octets in 'peer': correct the peer's IPv4 address",
        ),
        ({"addresses": ["fd5a:6c61::1::2/64"]}, "does not appear to be an IPv4 or IPv6 interface"),
        ({"mtu": 70000}, "mtu cannot be set to 70000"),
    ],
)
def test_bad_input_is_one_line(bench: Bench, arguments: dict[str, Any], said: str) -> None:
    before = bench.everything()
    result = bench.tune(**{"addresses": ["fd5a:6c61:63::1/64"], **arguments})
    assert result["failed"]
    assert said in result["msg"]
    assert "\n" not in result["msg"]
    assert bench.everything() == before
    assert bench.tune(check=True, **{"addresses": [], **arguments})["failed"]


def test_address_of_another_interface_is_refused(bench: Bench) -> None:
    peer = bench.interface.replace("va", "vb")
    bench.ip("addr", "add", "fd5a:6c61:63::1/64", "dev", peer, "nodad")
    result = bench.tune(**WANTED)
    assert f"fd5a:6c61:63::1 is an address of {peer} already" in result["msg"]
    assert not bench.state_file.exists()


@pytest.mark.parametrize("check", [True, False])
def test_disabled_ipv6_is_refused_before_anything_is_changed(bench: Bench, check: bool) -> None:
    name = f"net/ipv6/conf/{bench.interface}/disable_ipv6"
    bench.run("sysctl", "-qw", f"{name}=1")
    before = bench.everything()
    result = bench.tune(check=check, **WANTED)
    assert f"fd5a:6c61:63::1/64 needs IPv6, and sysctl {name} is 1: run `sysctl -w {name}=0`" in result["msg"]
    assert bench.everything() == before
    assert not bench.state_file.exists()
    assert bench.tune(mtu=4148, addresses=["10.99.2.1/24"])["changed"]  # IPv4 does not mind


def test_no_link_is_said(bench: Bench) -> None:
    bench.ip("link", "set", "dev", bench.interface.replace("va", "vb"), "down")
    result = bench.tune(addresses=["fd5a:6c61:63::1/64"], mtu=4168, carrier_timeout=0)
    assert "no link after 0 s" in result["msg"]
