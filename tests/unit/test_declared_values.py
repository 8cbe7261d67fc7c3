# SPDX-License-Identifier: Apache-2.0
"""Every value that an inventory declares is compared with the hosts, or says nothing of their state."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from tests import factories
from tests.factories import RECEIVER, SENDER, changed

from zclab.analysis import measurement
from zclab.lab.model import Disturbance, Expectations, Host, Lab, Limits, Link, Tuning, Validity
from zclab.plan import schedule
from zclab.runs.records import Manifest, Record

#: What says nothing of the hosts' state, and why.
STATELESS: dict[str, str] = {
    "Lab.name": "names the lab",
    "Lab.kind": "who makes the hosts; whether they are emulated is looked up on them",
    "Lab.lab_dir": "a place on this machine",
    "Lab.state_dir": "a place on this machine",
    "Lab.plan": "what is measured: each record is compared with it",
    "Lab.exact": "how a guest is made, by this machine; its link is compared as Host.nic_model",
    "Lab.virtual": "how virtual hosts are made, by this machine",
    "Lab.kernel_variants": "how kernels are built; the one that runs is compared by its build id",
    "Expectations.thresholds": "bounds on comparisons",
    "Expectations.not_gated": "why a claim has no bound here",
    "Expectations.baseline": "a bound on counts",
    "Expectations.smallest_effect": "a bound on comparisons",
    "Expectations.rcvlowat_bytes": "an option of the tool's socket: compared with what it read back",
    "Expectations.shared_cpu": "follows from the kind of the lab",
    "Expectations.counts_instructions": "follows from the kind of the lab",
    "Lab.crosscheck": "bounds for other tools",
    "Host.name": "names the host",
    "Host.role": "which end of the pair it is: its addresses are compared",
    "Host.pair": "numbers the pair",
    "Host.peer": "names the host at the other end",
    "Host.address": "how the host is reached",
    "Host.user": "how the host is reached",
    "Host.port": "how the host is reached",
    "Host.ssh_port": "how the host is reached",
    "Limits.rcvlowat_bytes": "an option of the tool's socket: compared with what it read back",
    "Validity.retransmitted_share_at_most": "a bound on measurements",
    "Validity.drops_at_most": "a bound on measurements",
    "Validity.foreign_bytes_at_most": "a bound on measurements",
    "Validity.guest_idle_share_at_most": "a bound on measurements",
    **{f"Disturbance.{name}": "a bound on comparisons" for name in Disturbance.model_fields},
    "Validity.copied_fraction": "a bound on measurements",
    "Validity.mapped_fraction": "a bound on measurements",
}
#: Fields that hold further ones, listed by themselves.
NESTED = {
    "Validity.disturbance",
    "Lab.limits",
    "Lab.hosts",
    "Lab.expectations",
    "Expectations.link",
    "Expectations.validity",
    "Host.tuning",
}

TUNING = {"offloads": {"gro": True}, "queues": 2, "receive_cpus": [0], "coalescing": {"rx-usecs": 3}}
LIMITS = {
    "rcvlowat_bytes": factories.LOW_WATER,
    "locked_memory_kib": "unlimited",
    "sysctls": {"net.core.optmem_max": 1048576},
    "machine_sysctls": {"net.core.rmem_max": 212992},
}
STATE = {
    "offloads": {"generic-receive-offload": True},
    "queues": 2,
    "receive_cpus": {"rx-0": [0], "rx-1": [0]},
    "coalescing": {"rx-usecs": 3},
    "locked_memory_kib": "unlimited",
    "sysctls": {"net.core.optmem_max": "1048576", "net.core.rmem_max": "212992"},
    "speed_mbps": 40000,
    "driver": "e1000e",
    "addresses": ["fd5a::2/64", "198.18.1.2/30"],
    "routes": {
        "4": {"device": "data0", "source": "198.18.1.2", "mtu": 4148},
        "6": {"device": "data0", "source": "fd5a::2", "mtu": None},
    },
    "route_mtu_ipv4": 4148,
}
#: A field, what a snapshot of the receiver says instead, and a part of the reason.
COMPARED: dict[str, tuple[dict[str, Any], str]] = {
    "Lab.kernel_variant": ({"kernel_build_id": "ab" * 20}, "is not the artifact's"),
    "Link.mtu": ({"mtu": 1500}, "MTU is 1500, the lab declares 4168"),
    "Link.ip_version": ({"routes.6.device": "eth0"}, "the route to fd5a::1 goes over eth0, not over data0"),
    "Link.speed_mbps": ({"speed_mbps": 1000}, "data0 runs at 1000 Mbit/s, the lab declares 40000"),
    "Host.data_interface": ({"operstate": "down"}, "data0 is down"),
    "Host.data_address": ({"addresses": ["198.18.1.2/30"]}, "lost its data address fd5a::2/64"),
    "Host.data_address_ipv4": ({"addresses": ["fd5a::2/64"]}, "lost its data address 198.18.1.2/30"),
    "Host.peer_address": ({"routes.6.device": "eth0"}, "the route to fd5a::1 goes over eth0"),
    "Host.peer_address_ipv4": ({"routes.4.device": "eth0"}, "the route to 198.18.1.1 goes over eth0"),
    "Host.nic_model": ({"driver": "8139cp"}, "data0 is 8139cp, the lab declares e1000e"),
    "Host.traffic_cpus": ({"online_cpus": [0]}, "CPU 1 is not online, zclab_traffic_cpus declares it"),
    "Tuning.offloads": ({"offloads.generic-receive-offload": False}, "has generic-receive-offload off"),
    "Tuning.queues": ({"queues": 1}, "has 1 receive queues, the lab declares 2"),
    "Tuning.receive_cpus": ({"receive_cpus.rx-1": [1]}, "rx-1 go to CPUs [1], the lab declares [0]"),
    "Tuning.coalescing": ({"coalescing.rx-usecs": 0}, "has rx-usecs 0, the lab declares 3"),
    "Limits.locked_memory_kib": ({"locked_memory_kib": 64}, "locked memory is 64 (ulimit -l)"),
    "Limits.sysctls": ({"sysctls.net#core#optmem_max": "1"}, "net.core.optmem_max is 1, the lab declares"),
    "Limits.machine_sysctls": ({"sysctls.net#core#rmem_max": "1"}, "net.core.rmem_max is 1, the lab needs"),
}
#: What a snapshot does not know is a reason as well, and never read as off.
UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "speed": ({"speed_mbps": None}, "data0 reports no speed"),
    "offloads": (
        {"offloads": None, "unknown": {"ethtool -k data0": "sh: 1: ethtool: not found"}},
        "offloads of data0 are not known: `ethtool -k data0`: sh: 1: ethtool: not found",
    ),
    "coalescing": ({"coalescing": None}, "coalescing of data0 is not known: `ethtool -c data0`: no answer"),
    "receive CPUs": ({"receive_cpus": None}, "the CPUs that process packets of data0 are not known"),
    "a sysctl": ({"sysctls": {"net.core.rmem_max": "212992"}}, "has no sysctl net.core.optmem_max"),
    "a sysctl of the machine": (
        {"sysctls": {"net.core.optmem_max": "1048576"}},
        "net.core.rmem_max is not known",
    ),
    "locked memory": ({"locked_memory_kib": None}, "locked memory is not known"),
    "a route": (
        {"routes": {}, "unknown": {"ip -o -6 route get fd5a::1 from fd5a::2": "Network is unreachable"}},
        "no route to fd5a::1 is known: `ip -o -6 route get fd5a::1 from fd5a::2`: Network is unreachable",
    ),
}


def fields(model: type[BaseModel]) -> set[str]:
    return {f"{model.__name__}.{name}" for name in model.model_fields}


def test_every_field_is_compared_or_says_nothing_of_the_hosts() -> None:
    models: tuple[type[BaseModel], ...] = (
        Lab,
        Expectations,
        Link,
        Limits,
        Tuning,
        Host,
        Validity,
        Disturbance,
    )
    every = set().union(*map(fields, models))
    assert every == {*COMPARED, *STATELESS, *NESTED}


def declared(version: int = 6) -> tuple[Manifest, Record]:
    """Return a manifest that declares all there is, and a measurement whose receiver is just so."""
    plan = factories.plan(ip_versions=[version])
    manifest = changed(
        factories.manifest(
            plan=plan, limits=LIMITS, link={"ip_version": 6, "mtu": 4168, "speed_mbps": 40000}
        ),
        {
            "pair.0.data_address_ipv4": "198.18.1.1/30",
            "pair.0.peer_address_ipv4": "198.18.1.2",
            "pair.1.data_address_ipv4": "198.18.1.2/30",
            "pair.1.peer_address_ipv4": "198.18.1.1",
            "pair.1.tuning": TUNING,
            "pair.1.traffic_cpus": [1],
        },
    )
    record = factories.record(next(one for one in schedule.measurements(plan) if one.arm == "b"))
    states = {
        f"{when}.{RECEIVER}.{key}": value for when in ("before", "after") for key, value in STATE.items()
    }
    return manifest, changed(record, {**states, "receiver.document.streams.0.cpu": 1})


def of_receiver(changes: dict[str, Any], version: int = 6) -> list[str]:
    """Return the receiver's reasons when its state before the measurement differs so."""
    manifest, record = declared(version)
    data = record.model_dump(mode="json")
    for path, value in changes.items():
        *parents, last = (part.replace("#", ".") for part in path.split("."))
        place = data["before"][RECEIVER]
        for part in parents:
            place = place[part]
        place[last] = value
    found = measurement.document(manifest, Record.model_validate(data)).invalid_reasons
    return [one for one in found if one.startswith(f"{RECEIVER}: ")]


def test_hosts_that_are_as_declared() -> None:
    assert of_receiver({}) == []


@pytest.mark.parametrize("field", COMPARED)
def test_a_deviation_is_seen(field: str) -> None:
    changes, reason = COMPARED[field]
    (found,) = of_receiver(changes, 4 if "ipv4" in field and "peer" in field else 6)[:1]
    assert reason in found


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_known_is_said(what: str) -> None:
    changes, reason = UNKNOWN[what]
    (found,) = of_receiver(changes)
    assert reason in found


def test_a_thread_that_ran_elsewhere() -> None:
    manifest, record = declared()
    moved = changed(record, {"receiver.document.streams.0.cpu": 0})
    found = measurement.document(manifest, moved).invalid_reasons
    assert "receiver: stream 0 ran on CPU 0, declared is 1" in found


def test_a_sender_that_is_not_declared_so_is_not_judged_so() -> None:
    manifest, record = declared()
    found = measurement.document(manifest, record).invalid_reasons
    assert {one.partition(":")[0] for one in found} <= {SENDER}
