# SPDX-License-Identifier: Apache-2.0
"""Role link_tuning: what ethtool prints, and the module itself on a veth pair in a network namespace."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.role_modules import load, run_module

link = load("link_tuning/library/zclab_link.py")
DATA = Path(__file__).parents[1] / "data/roles"
MODULE = "link_tuning/library/zclab_link.py"


# What ethtool prints


def test_features() -> None:
    features = link.parse_features((DATA / "ethtool-k.txt").read_text(encoding="utf-8"))
    assert features["tcp-segmentation-offload"] == {"on": True, "wanted": True, "fixed": False, "group": True}
    assert features["tx-tcp-segmentation"]["group"] is False
    assert features["large-receive-offload"] == {"on": False, "wanted": False, "fixed": True, "group": False}
    assert features["generic-segmentation-offload"]["wanted"] is True
    assert features["generic-segmentation-offload"]["on"] is False


def test_offloads_that_differ() -> None:
    features = link.parse_features((DATA / "ethtool-k.txt").read_text(encoding="utf-8"))
    declared = {"tso": False, "gro": True, "rx": True, "lro": False, "tx-nocache-copy": "on"}
    assert link.offload_changes(declared, features, "h: eth0") == {
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
    features = link.parse_features((DATA / "ethtool-k.txt").read_text(encoding="utf-8"))
    with pytest.raises(link.RefusedError, match=said) as refusal:
        link.offload_changes(declared, features, "h: eth0")
    assert "\n" not in str(refusal.value)


def test_queues() -> None:
    text = (
        "Channel parameters for eth0:\nPre-set maximums:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t8\n"
        "Current hardware settings:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t4\n"
    )
    channels = link.parse_channels(text)
    assert channels == {"maximum": {"other": 1, "combined": 8}, "current": {"other": 1, "combined": 4}}
    assert link.queue_words(channels, 4, "eth0") == []
    assert link.queue_words(channels, 8, "eth0") == ["combined", "8"]
    with pytest.raises(link.RefusedError, match="at most 8 combined queues, not 9"):
        link.queue_words(channels, 9, "eth0")


def test_coalescing() -> None:
    text = (
        "Coalesce parameters for eth0:\nAdaptive RX: on  TX: n/a\nstats-block-usecs:\tn/a\nrx-usecs:\t8\n"
        "rx-frames:\t0\ncqe-mode-rx:\toff\n"
    )
    assert link.parse_coalescing(text) == {
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
    assert link.parse_rings(text) == {"rx": 256, "tx": 512}


# The module on a real interface


class Bench:
    """A network namespace with a veth pair of two queues: va is tuned, vb is its peer."""

    def __init__(self) -> None:
        self.namespace = f"zclab-test-{uuid.uuid4().hex[:8]}"
        self.interface = f"va{uuid.uuid4().hex[:6]}"
        self.ip("netns", "add", self.namespace, inside=False)
        peer = self.interface.replace("va", "vb")
        queues = ["numtxqueues", "2", "numrxqueues", "2"]
        self.ip("link", "add", self.interface, *queues, "type", "veth", "peer", "name", peer, *queues)
        self.ip("link", "set", "dev", peer, "up")
        self.state_file = Path(f"/var/lib/zclab/link-{self.interface}.json")

    def run(self, *command: str) -> str:
        words = ["ip", "netns", "exec", self.namespace, *command]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def ip(self, *words: str, inside: bool = True) -> str:
        command = ["ip", *(["-n", self.namespace] if inside else []), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def tune(self, check: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {"interface": self.interface, **arguments}
        return run_module(MODULE, given, "ip", "netns", "exec", self.namespace, check=check)

    def restore(self, check: bool = False) -> dict[str, Any]:
        return self.tune(check=check, state="restored")

    def everything(self) -> tuple[Any, ...]:
        """Return all that tuning can change, as the tools print it."""
        shown = json.loads(self.ip("-j", "addr", "show", "dev", self.interface))[0]
        addresses = [
            (item["local"], item["prefixlen"]) for item in shown["addr_info"] if item["scope"] != "link"
        ]
        return (
            shown["mtu"],
            "UP" in shown["flags"],
            addresses,
            self.ip("-4", "route", "show"),
            self.run("ethtool", "-k", self.interface),
            self.run("ethtool", "-l", self.interface),
            self.run("sh", "-c", f"cat /sys/class/net/{self.interface}/queues/rx-*/rps_cpus"),
        )

    def close(self) -> None:
        subprocess.run(["ip", "netns", "del", self.namespace], check=False)
        self.state_file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is in it, or it is gone
            self.state_file.parent.rmdir()


@pytest.fixture
def bench() -> Iterator[Bench]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    made = Bench()
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
    assert first["changed"], first
    assert first["changes"] == checked["changes"]
    assert "mtu: 1500 -> 4168" in first["changes"]
    assert first["diff"]["before"]["mtu"] == "1500"
    assert first["diff"]["after"]["mtu"] == "4168"
    assert "fd5a:6c61:63::1/64" in bench.ip("addr", "show", "dev", bench.interface)
    assert "tentative" not in bench.ip("addr", "show", "dev", bench.interface, "scope", "global")
    saved = bench.state_file.read_text(encoding="utf-8")
    assert first["state_file"] == str(bench.state_file)

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
        (["ip", "addr", "flush", "dev", "{}"], "address: absent -> fd5a:6c61:63::1/64"),
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
    assert found in result["changes"], result
    assert not bench.tune(**WANTED)["changed"]


def test_ipv4_routes_carry_whole_pages(bench: Bench) -> None:
    bench.ip("addr", "add", "10.99.1.1/24", "dev", bench.interface)
    bench.ip("link", "set", "dev", bench.interface, "up")
    bench.ip("route", "add", "10.99.7.0/24", "via", "10.99.1.9", "dev", bench.interface)
    before = bench.everything()
    result = bench.tune(addresses=["10.99.2.1/24"], mtu=4168)
    assert result["changed"], result
    routes = json.loads(bench.ip("-j", "-4", "route", "show", "dev", bench.interface))
    assert {route["dst"]: route["metrics"] for route in routes} == {
        name: [{"mtu": 4148}] for name in ("10.99.1.0/24", "10.99.2.0/24", "10.99.7.0/24")
    }
    assert not bench.tune(addresses=["10.99.2.1/24"], mtu=4168)["changed"]
    bench.restore()
    assert bench.everything() == before


def test_state_of_another_boot_says_nothing(bench: Bench) -> None:
    bench.tune(**WANTED)
    state = json.loads(bench.state_file.read_text(encoding="utf-8"))
    bench.state_file.write_text(json.dumps({**state, "boot_id": "another", "mtu": 9000}), encoding="utf-8")
    tuned = bench.everything()
    assert not bench.restore()["changed"]
    assert bench.everything() == tuned
    assert not bench.state_file.exists()

    bench.state_file.parent.mkdir(exist_ok=True)
    bench.state_file.write_text(json.dumps({**state, "ifindex": 0, "mtu": 9000}), encoding="utf-8")
    bench.tune(**{**WANTED, "mtu": 4148})
    assert json.loads(bench.state_file.read_text(encoding="utf-8"))["mtu"] == 4168


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"interface": "nosuch0"}, "nosuch0: no such interface (there are: va"),
        ({"offloads": {"lro": True}}, "fixes offload lro to off"),
        ({"queues": 3}, "at most 2 rx queues, not 3"),
        ({"coalescing": {"rx-usecs": 8}}, "no coalescing setting rx-usecs"),
        ({"rings": {"rx": 8}}, "no ring setting rx"),
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
    if "mtu" not in arguments:
        assert bench.everything() == before
        assert not bench.state_file.exists()


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
