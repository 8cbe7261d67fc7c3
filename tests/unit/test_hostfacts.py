# SPDX-License-Identifier: Apache-2.0
"""What a host says of itself: parsed from what the shell prints, and read once from this machine."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from tests import factories

from zclab.host import facts as hostfacts
from zclab.host import programs, state
from zclab.host.snapshot import CpuTicks, Route, Snapshot, SoftNetTotals
from zclab.host.ssh import RemoteError

HOST = factories.manifest().pair[1]
NIC = "/sys/class/net/data0"
#: ELF notes as the kernel shows them: a Xen note of 4 bytes, then the build id.
NOTES = (
    bytes.fromhex("040000000400000006000000")
    + b"Xen\0"
    + b"\1\0\0\0"
    + bytes.fromhex("040000001400000003000000")
    + b"GNU\0"
    + bytes.fromhex(factories.BUILD_ID)
)
STATISTICS = f"{NIC}/statistics"
SAID = f"""\
@ask grep -Hs . and more
/proc/sys/kernel/random/boot_id:0f0e0d0c-1111-2222-3333-444455556666
/proc/sys/kernel/osrelease:{factories.RELEASE}
/proc/sys/net/ipv4/tcp_timestamps:1
/proc/sys/net/ipv4/tcp_rmem:4096\t131072\t16777216
/proc/net/softnet_stat:0000000a 00000001 00000002 0 0 0 0 0 0 00000003 0 0 0 0 0
/proc/net/softnet_stat:00000014 00000000 00000000 0 0 0 0 0 0 00000004 0 0 1 0 0
/proc/net/netstat:TcpExt: SyncookiesSent TCPBacklogDrop TCPRcvQDrop
/proc/net/netstat:TcpExt: 7 8 9
/proc/net/netstat:IpExt: InNoRoutes
/proc/net/netstat:IpExt: 1
/sys/devices/system/cpu/online:0-1,4
/sys/class/dmi/id/sys_vendor:QEMU
/sys/devices/system/clocksource/clocksource0/available_clocksource:tsc hpet acpi_pm
{NIC}/mtu:4168
{NIC}/carrier_changes:2
{NIC}/operstate:up
{NIC}/speed:1000
{NIC}/ifindex:3
{NIC}/device/uevent:DRIVER=e1000e
{NIC}/device/uevent:PCI_CLASS=20000
{STATISTICS}/rx_dropped:7
{STATISTICS}/rx_missed_errors:20
{STATISTICS}/rx_errors:300
{STATISTICS}/tx_dropped:4000
{STATISTICS}/tx_errors:50000
{NIC}/queues/rx-0/rps_cpus:00000001,00000005
@end 2
@ask od -An -v -tx1 /sys/kernel/notes
 {NOTES.hex(" ")}
@end 0
@ask ip -o addr show dev data0
3: data0    inet6 fd5a::2/64 scope global \\       valid_lft forever preferred_lft forever
3: data0    inet6 fe80::5054:ff:fe00:2/64 scope link \\       valid_lft forever preferred_lft forever
3: data0    inet 192.0.2.2/24 scope global data0\\       valid_lft forever preferred_lft forever
@end 0
@ask ip -o -6 route get fd5a::1 from fd5a::2
fd5a::1 from fd5a::2 dev data0 proto kernel src fd5a::2 metric 256 mtu 4168 pref medium
@end 0
@ask tc -s qdisc show dev data0
qdisc mq 0: root
 Sent 10 bytes 1 pkt (dropped 100000, overlimits 0 requeues 0)
qdisc ingress ffff: parent ffff:fff1 ----------------
 Sent 20 bytes 2 pkt (dropped 200000, overlimits 0 requeues 0)
@end 0
@ask ethtool -S data0
NIC statistics:
     rx_packets: 12345
     rx_dropped: 7
     rx_queue_0_drops: 1000000
     rx_header_split: 678
@end 0
@ask ethtool -k data0
Features for data0:
tx-checksumming: on
\ttx-checksum-ip-generic: on
scatter-gather: on
\ttx-scatter-gather: on [fixed]
@end 0
@ask sed -n /^cpu/p /proc/stat
cpu  10 0 10 80 0 0 4 1 0 0
cpu0 5 1 4 40 2 0 3 6 0 0
@end 0
@ask sed -n -e '/^model name/{{p;q}}' /proc/cpuinfo
model name\t: Intel Core Processor (Skylake)
@end 0
@ask ulimit -l
8192
@end 0
@ask sha256sum -- some files 2>/dev/null
{"ab" * 32}  /usr/local/bin/zclab-traffic
{"cd" * 32}  /var/lib/zclab/crosscheck/with a space
@end 1
"""


def read(stdout: str) -> Snapshot:
    return state.parse(stdout, HOST, factories.lab())


def without(start: str) -> str:
    """Return what a host says, less the lines that begin so."""
    return "".join(line for line in SAID.splitlines(keepends=True) if not line.startswith(start))


def unanswered(command: str, said: str = "sh: not found") -> str:
    """Return what a host says where a command does not answer."""
    head, _, rest = SAID.partition(f"@ask {command}")
    first, _, after = rest.partition("@end 0\n")
    return f"{head}@ask {command}{first.partition(chr(10))[0]}\n{said}\n@end 127\n{after}"


def test_snapshot() -> None:
    assert read(SAID) == Snapshot(
        boot_id="0f0e0d0c-1111-2222-3333-444455556666",
        kernel_release=factories.RELEASE,
        kernel_build_id=factories.BUILD_ID,
        mtu=4168,
        tcp_timestamps=1,
        addresses=["fd5a::2/64", "fe80::5054:ff:fe00:2/64", "192.0.2.2/24"],
        drops=1354320,  # all but rx_dropped
        header_split=678,
        missing_offloads=[],
        carrier_changes=2,
        nic_counters={
            "rx_packets": 12345,
            "rx_dropped": 7,
            "rx_queue_0_drops": 1000000,
            "rx_header_split": 678,
        },
        routes={"6": Route(device="data0", source="fd5a::2", mtu=4168)},
        link_counters={
            "rx_dropped": 7,
            "rx_missed_errors": 20,
            "rx_errors": 300,
            "tx_dropped": 4000,
            "tx_errors": 50000,
        },
        operstate="up",
        speed_mbps=1000,
        driver="e1000e",
        ifindex=3,
        queueing=["mq", "ingress"],
        offloads={"tx-checksumming": True, "scatter-gather": True},
        queues=1,
        receive_cpus={"rx-0": [0, 2, 32]},
        sysctls={"net.ipv4.tcp_rmem": "4096 131072 16777216", "net.ipv4.tcp_timestamps": "1"},
        locked_memory_kib=8192,
        online_cpus=[0, 1, 4],
        cpus={0: CpuTicks(busy=13, softirq=3, steal=6, idle=42)},
        softnet=SoftNetTotals(processed=30, dropped=1, squeezed=2, received_rps=7),
        tcp_drops={"TCPBacklogDrop": 8, "TCPRcvQDrop": 9},
        emulated=True,
        programs={**factories.PROGRAMS, "/var/lib/zclab/crosscheck/with a space": "cd" * 32},
    )


def test_a_program_that_is_not_there_has_no_sum(tmp_path: Path) -> None:
    file = tmp_path / "a file"
    file.write_bytes(b"program\n")
    done = run_shell(programs.command([str(file), str(tmp_path / "none")]))
    assert programs.parse(done) == {str(file): hashlib.sha256(b"program\n").hexdigest()}
    assert programs.parse(run_shell(programs.command([]))) == {}


def run_shell(command: str) -> list[str]:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_short_frames_are_no_loss() -> None:
    short = SAID.replace(
        f"{STATISTICS}/rx_errors:300\n", f"{STATISTICS}/rx_errors:301\n{STATISTICS}/rx_length_errors:1\n"
    )
    assert read(short).drops == read(SAID).drops


def test_a_nic_that_does_not_count_header_split() -> None:
    """Null, not 0."""
    assert read(without("     rx_header_split")).header_split is None
    assert read(unanswered("ethtool -S")).header_split is None


def test_an_interface_without_address() -> None:
    assert read(without("3: data0")).addresses == []


@pytest.mark.parametrize("state", ["off", "off [fixed]", "off [requested on]"])
@pytest.mark.parametrize("feature", ["scatter-gather", "tx-checksumming"])
def test_an_offload_that_zerocopy_needs_is_off(feature: str, state: str) -> None:
    said = SAID.replace(f"\n{feature}: on", f"\n{feature}: {state}")
    assert read(said).missing_offloads == [feature]


def test_an_offload_that_cannot_be_switched_off() -> None:
    assert read(SAID.replace("\nscatter-gather: on", "\nscatter-gather: on [fixed]")) == read(SAID)


def test_offloads_that_are_not_known_do_not_count_as_there() -> None:
    """Nor as off: the reason is what the command said."""
    found = read(unanswered("ethtool -k", "sh: 1: ethtool: not found"))
    assert (found.missing_offloads, found.offloads) == (None, None)
    assert found.unknown == {"ethtool -k data0": "sh: 1: ethtool: not found"}


@pytest.mark.parametrize(
    ("command", "field"),
    [
        ("ip -o -6 route", "routes"),
        ("tc ", "queueing"),
        ("sed -n /^cpu", "cpus"),
        ("ulimit", "locked_memory_kib"),
    ],
)
def test_what_a_host_does_not_answer_is_not_known(command: str, field: str) -> None:
    found = read(unanswered(command))
    assert not getattr(found, field)
    assert len(found.unknown) == 1


@pytest.mark.parametrize(
    "start",
    [
        "/proc/sys/kernel/random/boot_id",
        "/proc/sys/kernel/osrelease",
        "/proc/sys/net/ipv4/tcp_timestamps",
        f"{NIC}/mtu",
        f"{NIC}/carrier_changes",
        f"{NIC}/ifindex",
        f"{STATISTICS}/rx_missed_errors",
    ],
)
def test_a_missing_value_is_one_line(start: str) -> None:
    with pytest.raises(RemoteError) as caught:
        read(without(start))
    message = str(caught.value)
    assert message.startswith("receiver1: cannot read the state of data0")
    assert start.rpartition("/")[2] in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("said", ["", "\n", "garbage", SAID.replace("mtu:4168", "mtu:much")])
def test_garbage_is_one_line(said: str) -> None:
    with pytest.raises(RemoteError, match=r"^receiver1: cannot read the state"):
        read(said)


@pytest.mark.parametrize(
    ("route", "device", "mtu"),
    [
        ("198.18.1.1 from 198.18.1.2 dev data0 uid 0 \\    cache mtu 4148 ", "data0", 4148),
        ("198.18.1.1 from 198.18.1.2 dev data0 uid 0 \\    cache ", "data0", None),
        ("198.18.1.1 from 198.18.1.2 via 10.0.0.1 dev eth0 \\    cache mtu lock 1400", "eth0", None),
        ("RTNETLINK answers: Network is unreachable", None, None),
    ],
)
def test_the_ipv4_route(route: str, device: str | None, mtu: int | None) -> None:
    host = HOST.model_copy(update={"data_address_ipv4": "198.18.1.2/30", "peer_address_ipv4": "198.18.1.1"})
    status = 2 if device is None else 0
    said = f"{SAID}@ask ip -o -4 route get 198.18.1.1 from 198.18.1.2\n{route}\n@end {status}\n"
    found = state.parse(said, host, factories.lab())
    assert found.route_mtu_ipv4 == mtu
    assert (found.routes or {}).get("4") == (
        Route(device=device, source="198.18.1.2", mtu=mtu) if device else None
    )


@pytest.mark.parametrize(
    ("vendor", "clocks", "model", "emulated"),
    [
        ("QEMU", "kvm-clock tsc", "model name: AMD EPYC", False),
        ("QEMU", "tsc hpet", "model name: AMD EPYC", True),
        ("QEMU", "kvm-clock", "model name: QEMU TCG CPU version 2.5+", True),
        ("Dell Inc.", "tsc", "model name: Intel(R) Xeon(R)", False),
        (None, "tsc", "model name: Intel(R) Xeon(R)", False),
        (None, None, "", None),
    ],
)
def test_an_emulated_host(vendor: str | None, clocks: str | None, model: str, emulated: bool | None) -> None:
    said = SAID.replace("model name\t: Intel Core Processor (Skylake)\n", f"{model}\n" if model else "")
    for file, value in (("sys_vendor:QEMU", vendor), ("available_clocksource:tsc hpet acpi_pm", clocks)):
        lines = said.splitlines(keepends=True)
        said = "".join(
            f"{line.partition(':')[0]}:{value}\n" if line.strip().endswith(file) and value else line
            for line in lines
            if value or not line.strip().endswith(file)
        )
    assert read(said).emulated is emulated


@pytest.mark.parametrize(
    ("line", "concerned"),
    [
        ("3: data0: <BROADCAST,UP> mtu 1500 qdisc mq state UP", True),
        ("3: data0@if2: <BROADCAST,UP> mtu 1500 qdisc noqueue state UP", True),
        ("Deleted 3: data0@if2: <BROADCAST> mtu 1500", True),
        ("2: eth0: <BROADCAST,UP> mtu 1500 qdisc mq state UP", False),
        ("Deleted 3: data0    inet6 fd5a::2/64 scope global \\ valid_lft forever", True),
        ("3: data0    inet 10.1.1.1/24 scope global dynamic data0\\ valid_lft 3600sec", False),
        ("2: eth0    inet6 fd5a::2/64 scope global", False),
        ("fd5a::1 dev eth1 metric 1024 pref medium", True),
        ("Deleted fd5a::/64 dev data0 proto kernel metric 256", True),
        ("unreachable fd5a::1 dev lo metric 1024", True),
        ("default via 10.0.0.1 dev eth0", False),
        ("10.0.0.0/8 dev eth0", False),
        ("", False),
    ],
)
def test_events_that_concern_the_data_link(line: str, concerned: bool) -> None:
    assert state.concerns(line, HOST) is concerned


# -------------------------------------------------------------------------------------- for real, and facts


@pytest.mark.parametrize(
    ("config", "accounting"),
    [
        ("CONFIG_TICK_CPU_ACCOUNTING=y CONFIG_HZ=250", ("tick", False, 250)),
        ("CONFIG_TICK_CPU_ACCOUNTING=y CONFIG_IRQ_TIME_ACCOUNTING=y CONFIG_HZ=1000", ("tick", True, 1000)),
        ("CONFIG_VIRT_CPU_ACCOUNTING_GEN=y", ("exact", False, None)),
        ("CONFIG_HZ=100", None),
        ("", None),
    ],
)
def test_cpu_accounting(config: str, accounting: tuple[str, bool, int | None] | None) -> None:
    found = hostfacts.cpu_accounting(config.split())
    assert (found and (found.mode, found.irq_time, found.hz)) == accounting
