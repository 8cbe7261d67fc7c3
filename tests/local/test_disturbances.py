# SPDX-License-Identifier: Apache-2.0
"""Disturbances of a real measurement on two network namespaces: each is seen and named, an honest one is not.

The tests run in the order of this file, and each leaves the lab as it was.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests import factories
from tests.namespaces_lab import NamespacesLab
from tests.trusted_tool import Silent

from zclab.analysis import validity
from zclab.analysis.document import RunDocument
from zclab.backends.namespaces import lab as namespaces
from zclab.host.ssh import Completed
from zclab.measure import channels, engine
from zclab.measure.session import Ends, Session
from zclab.plan import schedule
from zclab.plan.plan import Plan
from zclab.runs import folder
from zclab.runs.records import Manifest, Record

SENDER, RECEIVER = "sender1", "receiver1"
LIMIT = 60
LLDP = """
import socket
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("data0", 0))
for _ in range(5):
    link.send(bytes.fromhex("0180c200000e020000000001 88cc") + bytes(50))
"""
#: Sends as much as it can over the link for some seconds, to a sink that the other host runs.
SINK = """
import socket, sys
server = socket.create_server((sys.argv[1], 9999), family=socket.AF_INET6)
connection, _ = server.accept()
while connection.recv(1 << 20):
    pass
"""
FLOW = """
import socket, sys, time
flow = socket.create_connection((sys.argv[1], 9999))
end, chunk = time.monotonic() + float(sys.argv[2]), bytes(1 << 16)
while time.monotonic() < end:
    flow.sendall(chunk)
"""

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="openssh-server is not installed"),
]


class Disturbed(Session):
    """A session in which something happens while a transfer runs whose receiver has the chosen mode."""

    during: ClassVar[Callable[[], None]]
    mode: ClassVar[str]

    def transfer(
        self, receive: str, send: Callable[[int], str], seconds: float, failed: Callable[[Completed], bool]
    ) -> Ends:
        if f"--mode {self.mode} " not in receive:
            return super().transfer(receive, send, seconds, failed)
        happens = threading.Thread(target=type(self).during)

        def begin(port: int) -> str:
            happens.start()
            return send(port)

        try:
            return super().transfer(receive, begin, seconds, failed)
        finally:
            happens.join()


class LabUnderTest(NamespacesLab):
    """A namespaces lab with a state of its own."""

    def zclab(self, command: str) -> None:
        tool = [str(Path(sys.executable).with_name("zclab")), command, "--lab", str(self.directory)]
        done = subprocess.run(tool, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == 0, str(done)

    def on(self, host: str, *command: str) -> None:
        """Run a command in a host's network namespace."""
        subprocess.run(["ip", "netns", "exec", self.namespace(host), *command], check=True, timeout=LIMIT)

    def start(self, host: str, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["ip", "netns", "exec", self.namespace(host), *command])

    def file(self, host: str, path: str) -> Path:
        return namespaces.tree(self.lab.state_dir, host) / path.lstrip("/")

    def measure(self, plan: Plan, during: Callable[[], None], mode: str = "map_once") -> RunDocument:
        opener: Any = type("Opened", (Disturbed,), {"during": staticmethod(during), "mode": mode})
        with pytest.MonkeyPatch.context() as patch:
            # Other files clear the project's runs/ meanwhile.
            patch.setattr(folder, "runs_dir", lambda: self.directory.parent / "runs")
            opened = channels.opener(opener.open_declared)
            return engine.execute(self.lab, plan, Silent(), open_driver=opened).document()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUnderTest]:
    made = LabUnderTest(tmp_path_factory.mktemp("lab"))
    try:
        made.zclab("up")
        yield made
    finally:
        namespaces.down(made.lab.state_dir)


def plan(**changes: Any) -> Plan:
    """Return a short plan: map_once of a zerocopy sender, and the same bytes copied."""
    data: dict[str, Any] = {
        "seconds": 0.6,
        "warmup_seconds": 0.1,
        "repeats": 1,
        "repeat_invalid": {"per_measurement": 0},
        "seed": 1,
        "comparisons": [factories.comparison(b=("zerocopy", "map_once"), metrics={"gbit_per_s": []})],
    }
    return factories.plan(**data | changes)


def reasons(document: RunDocument, arm: str = "b") -> list[str]:
    (one,) = (one for one in document.measurements if one.arm == arm)
    assert one.valid == (one.invalid_reasons == [])
    return one.invalid_reasons


def later(*acts: Callable[[], None], wait: float = 0.3, between: float = 0.2) -> Callable[[], None]:
    """Return what does each of these, the first after `wait` seconds."""

    def happen() -> None:
        time.sleep(wait)
        for act in acts:
            act()
            time.sleep(between)

    return happen


def nothing() -> None:
    pass


@contextlib.contextmanager
def second_link(lab: LabUnderTest, version: int) -> Iterator[None]:
    """Join the hosts by another veth pair, with host routes to each other's data address over it."""
    pair = lab.lab.pair()
    subprocess.run(
        ["ip", "link", "add", "side0", "mtu", "4168", "netns", lab.namespace(SENDER), "type", "veth"]
        + ["peer", "name", "side0", "netns", lab.namespace(RECEIVER)],
        check=True,
    )
    try:
        for host in pair:
            own, peer = host.endpoints(version)  # type: ignore[arg-type]
            lab.on(host.name, "ip", "link", "set", "side0", "mtu", "4168", "up")
            lab.on(
                host.name, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.side0.rp_filter=0"
            )
            mtu = ["mtu", "4148"] if version == 4 else []
            lab.on(host.name, "ip", "route", "prepend", peer, "dev", "side0", "src", own, *mtu)
        yield
    finally:
        lab.on(SENDER, "ip", "link", "del", "side0")


def mtu(lab: LabUnderTest, host: str, value: int) -> Callable[[], None]:
    return lambda: lab.on(host, "ip", "link", "set", "data0", "mtu", str(value))


def test_an_honest_measurement_is_valid(lab: LabUnderTest) -> None:
    document = lab.measure(plan(ip_versions=[6, 4], rpc_comparisons=[RPC]), nothing)
    assert [one.invalid_reasons for one in document.measurements] == [[]] * 8
    assert [one.invalid_reasons for one in document.comparisons if one.invalid_reasons] == []
    assert (document.verdict, document.problems) == ("pass", [])


RPC = {
    "name": "rpc",
    "a": "recvmsg",
    "b": "map_recvmsg",
    "request_bytes": 4096,
    "reply_bytes": 100,
    "metrics": {"rpcs_per_s": []},
}


@pytest.mark.parametrize("version", [6, 4])
def test_bytes_over_another_interface(lab: LabUnderTest, version: int) -> None:
    with second_link(lab, version):
        document = lab.measure(plan(ip_versions=[version], rpc_comparisons=[RPC]), nothing)
    assert document.verdict == "invalid"
    for one in document.measurements:
        (reason,) = one.invalid_reasons
        assert reason.startswith("not made: ") and "goes over side0, not over data0" in reason


def test_a_route_that_comes_after_the_first_look(lab: LabUnderTest) -> None:
    """Between the two looks the bytes go elsewhere; at the second all is as it was."""
    stack = contextlib.ExitStack()

    def meanwhile() -> None:
        stack.enter_context(second_link(lab, 6))
        time.sleep(0.5)
        stack.close()

    found = " ".join(reasons(lab.measure(plan(), meanwhile)))
    assert "addresses or routes during the measurement" in found
    assert reasons(lab.measure(plan(), nothing)) == []


@pytest.mark.parametrize("host", [SENDER, RECEIVER])
def test_another_mtu_for_a_moment(lab: LabUnderTest, host: str) -> None:
    document = lab.measure(plan(), later(mtu(lab, host, 1500), mtu(lab, host, 4168)))
    assert any(
        reason.startswith(f"{host}: 2 changes of data0") and "first: data0 mtu 1500" in reason
        for reason in reasons(document)
    ), reasons(document)
    assert reasons(document, "a") == []


def test_frames_that_no_protocol_wants(lab: LabUnderTest) -> None:
    before = lab_counter(lab, RECEIVER, "rx_dropped")
    document = lab.measure(plan(), later(lambda: lab.on(SENDER, sys.executable, "-c", LLDP)))
    assert lab_counter(lab, RECEIVER, "rx_dropped") > before  # they were sent
    assert reasons(document) == []


def lab_counter(lab: LabUnderTest, host: str, name: str) -> int:
    command = ["ip", "netns", "exec", lab.namespace(host), "cat", f"/sys/class/net/data0/statistics/{name}"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_second_flow_over_the_link(lab: LabUnderTest) -> None:
    address = lab.lab.pair().receiver.ip
    sink = lab.start(RECEIVER, sys.executable, "-c", SINK, address)
    try:
        document = lab.measure(
            plan(), later(lambda: lab.on(SENDER, sys.executable, "-c", FLOW, address, "0.3"), wait=0.1)
        )
    finally:
        sink.kill()
        sink.wait()
    assert any("other traffic was on the link" in reason for reason in reasons(document)), reasons(document)
    assert reasons(document, "a") == []


def test_packets_that_the_sender_drops(lab: LabUnderTest) -> None:
    """A short queue with little room, as a busy host's own."""
    shaper = "rate 200mbit burst 64k limit 70k"
    lab.on(SENDER, "tc", "qdisc", "add", "dev", "data0", "root", "tbf", *shaper.split())
    try:
        document = lab.measure(plan(), nothing)
    finally:
        lab.on(SENDER, *["tc", "qdisc", "del", "dev", "data0", "root"])
    assert any(reason.startswith(f"{SENDER}: data0 dropped ") for reason in reasons(document))


def stop_the_receiver(lab: LabUnderTest) -> None:
    for pid in namespaces.processes(lab.lab.state_dir, RECEIVER):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text("utf-8").strip() == "zclab-traffic":
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.3)
                os.kill(pid, signal.SIGCONT)


def test_a_receiver_that_was_stopped_in_one_arm(lab: LabUnderTest) -> None:
    wanted = plan(seconds=0.5, repeats=3)
    document = lab.measure(wanted, later(lambda: stop_the_receiver(lab), wait=0.2))
    assert document.verdict == "invalid"
    for one in document.comparisons:
        assert one.verdict == "invalid"
        assert any("something disturbed arm B" in reason for reason in one.invalid_reasons), one


#: Started on a CPU of the receiver, for about as long as a window.
HOG = "import time\nend = time.monotonic() + 0.8\nwhile time.monotonic() < end: pass"
#: Reads every packet of the data interface for as long.
TAP = """
import socket, time
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
tap.bind(("data0", 0))
tap.settimeout(0.1)
end = time.monotonic() + 0.8
while time.monotonic() < end:
    try:
        tap.recv(1 << 17)
    except TimeoutError:
        pass
"""


@pytest.mark.nightly
@pytest.mark.alone
@pytest.mark.parametrize("script", [HOG, TAP], ids=["a busy CPU", "a packet socket"])
def test_what_takes_cpu_in_one_arm(lab: LabUnderTest, script: str) -> None:
    """It shows where the machine is not busy all the time."""
    cpus = lab.lab.pair().receiver.traffic_cpus or [0]
    command = ["taskset", "-c", str(cpus[0]), sys.executable, "-c", script]
    document = lab.measure(plan(repeats=3), later(lambda: lab.on(RECEIVER, *command), wait=0.0))
    assert document.verdict == "invalid"
    found = [reason for one in document.comparisons for reason in one.invalid_reasons]
    assert any(f"{RECEIVER}: foreign CPU time" in reason for reason in found), found


HONEST = {
    "seconds": 0.5,
    "repeats": 50,
    "ip_versions": [6, 4],
    "comparisons": [
        factories.comparison(a=("copy", "copy"), b=("zerocopy", "map_once"), metrics={"gbit_per_s": []})
    ],
}


@pytest.mark.nightly
@pytest.mark.alone
@pytest.mark.parametrize("hogs", [0, 1])
def test_two_hundred_honest_measurements(lab: LabUnderTest, hogs: int) -> None:
    """At most 1 % are invalid, and nothing seems to disturb one arm; beside a hog throughout, too."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(hogs)]
    try:
        document = lab.measure(plan(**HONEST), nothing)
    finally:
        for one in busy:
            one.kill()
            one.wait()
    invalid = [one.invalid_reasons for one in document.measurements if one.invalid_reasons]
    assert len(document.measurements) == 200
    assert len(invalid) <= 2, invalid
    assert [one for one in document.problems if "disturb" in one] == []


@contextlib.contextmanager
def without_ethtool(lab: LabUnderTest, host: str, script: str) -> Iterator[None]:
    path = lab.file(host, "/usr/local/sbin/ethtool")
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    try:
        yield
    finally:
        path.unlink()


def test_an_answer_that_is_missing_is_not_off(lab: LabUnderTest) -> None:
    with without_ethtool(lab, SENDER, "echo netlink error: Operation not permitted >&2; exit 1"):
        (reason,) = reasons(lab.measure(plan(), nothing))
    said = "`ethtool -k data0`: netlink error: Operation not permitted"
    assert reason == f"not made: {SENDER}: offloads of data0 are not known: {said}"


#: What is changed on the receiver, wrong and right, and the reason.
CHANGES = [
    ("sysctl -qw net.ipv4.tcp_mtu_probing={}", "1", "0", "net.ipv4.tcp_mtu_probing is 1, the lab declares 0"),
    ("ethtool -K data0 gro {}", "off", "on", "data0 has generic-receive-offload off, the lab declares on"),
    (
        "sh -c 'echo {} >/sys/class/net/data0/queues/rx-0/rps_cpus'",
        *("2", "1", "packets of data0 rx-0 go to CPUs [1], the lab declares [0]"),
    ),
    ("ip addr {} 198.18.1.2/30 dev data0", "del", "add", "lost its data address 198.18.1.2/30"),
    (
        "ip -4 route replace 198.18.1.0/30 dev data0 proto kernel scope link src 198.18.1.2 {}",
        *("mtu 4000", "mtu 4148", "MTU of the route to 198.18.1.1 is 4000, not 4148"),
    ),
    (
        "ip -6 route replace fd5a:6c61:62:1::/64 dev data0 proto kernel metric 256 {}",
        *("mtu 4000", "", "MTU of the route to fd5a:6c61:62:1::1 is 4000, not that of the link, 4168"),
    ),
    ("ip link set data0 {}", "down", "up", "data0 is down"),
]


def test_a_declared_value_that_changed(lab: LabUnderTest) -> None:
    declared = lab.lab
    with Session.open_declared(declared) as session:
        wanted = plan(ip_versions=[6, 4])
        manifest = Manifest.model_validate({**channels.manifest_fields(session, wanted), "kind": "run"})
        versions = {one.ip_version: one for one in schedule.measurements(wanted)}

        def unfit() -> set[str]:
            state = session.snapshot()
            return {
                reason
                for one in versions.values()
                for reason in validity.host_reasons(
                    manifest, Record(planned=one, started_at="", ended_at=""), state
                )
            }

        assert unfit() == set()
        for command, wrong, right, reason in CHANGES:
            remote(lab, RECEIVER, command.format(wrong))
            assert f"{RECEIVER}: {reason}" in unfit()
            remote(lab, RECEIVER, command.format(right))
            if command.startswith(("ip addr", "ip link")):  # the route went with it
                remote(lab, RECEIVER, CHANGES[4][0].format("mtu 4148"))
            assert unfit() == set(), command


def remote(lab: LabUnderTest, host: str, command: str) -> None:
    config = str(lab.lab.state_dir / "ssh_config")
    subprocess.run(["ssh", "-F", config, "-o", "ControlPath=none", host, command], check=True, timeout=LIMIT)


def test_nothing_stays_behind(lab: LabUnderTest) -> None:
    """Neither a monitor nor its file, also when the controller goes away in mid-measurement."""
    for host in (SENDER, RECEIVER):
        assert not list(lab.file(host, "/tmp").glob("zclab-*"))
        deadline = time.monotonic() + LIMIT
        while found := monitors(lab, host):
            assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in found]
            time.sleep(0.05)


def monitors(lab: LabUnderTest, host: str) -> list[int]:
    """Return the processes of a host that are `ip monitor`."""
    found = []
    for pid in namespaces.processes(lab.lab.state_dir, host):
        with contextlib.suppress(OSError):
            if b"monitor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found
