# SPDX-License-Identifier: Apache-2.0
"""What a host says of itself: parsed from what the shell prints, and read once from this machine."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests import factories

from zclab.host import facts as hostfacts
from zclab.host import programs
from zclab.host.snapshot import Snapshot
from zclab.host.ssh import Completed, RemoteError

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
SAID = f"""\
/proc/sys/kernel/random/boot_id:0f0e0d0c-1111-2222-3333-444455556666
/proc/sys/kernel/osrelease:{factories.RELEASE}
/proc/sys/net/ipv4/tcp_timestamps:1
{NIC}/mtu:4168
{NIC}/carrier_changes:2
{NIC}/statistics/rx_dropped:1
{NIC}/statistics/rx_missed_errors:20
{NIC}/statistics/rx_errors:300
{NIC}/statistics/tx_dropped:4000
{NIC}/statistics/tx_errors:50000
notes:{NOTES.hex()}
address:3: data0    inet6 fd5a::2/64 scope global \\       valid_lft forever preferred_lft forever
address:3: data0    inet6 fe80::5054:ff:fe00:2/64 scope link \\       valid_lft forever preferred_lft forever
address:3: data0    inet 192.0.2.2/24 scope global data0\\       valid_lft forever preferred_lft forever
counter:NIC statistics:
counter:     rx_packets: 12345
counter:     rx_header_split: 678
feature:Features for data0:
feature:tx-checksumming: on
feature:\ttx-checksum-ip-generic: on
feature:scatter-gather: on
feature:\ttx-scatter-gather: on [fixed]
program:{"ab" * 32}  /usr/local/bin/zclab-traffic
program:{"cd" * 32}  /var/lib/zclab/crosscheck/with a space
"""


class Said:
    """Stands for a command on a host that printed something."""

    def __init__(self, stdout: str) -> None:
        self._stdout = stdout

    def wait(self, seconds: float) -> Completed:
        return Completed(0, self._stdout, "")


def read(stdout: str) -> Snapshot:
    said: Any = Said(stdout)
    return hostfacts.finish_snapshot(said, HOST)


def without(start: str) -> str:
    """Return what a host says, less the lines that begin so."""
    return "".join(line for line in SAID.splitlines(keepends=True) if not line.startswith(start))


def test_snapshot() -> None:
    assert read(SAID) == Snapshot(
        boot_id="0f0e0d0c-1111-2222-3333-444455556666",
        kernel_release=factories.RELEASE,
        kernel_build_id=factories.BUILD_ID,
        mtu=4168,
        tcp_timestamps=1,
        addresses=["fd5a::2/64", "fe80::5054:ff:fe00:2/64", "192.0.2.2/24"],
        drops=54321,
        header_split=678,
        missing_offloads=[],
        carrier_changes=2,
        nic_counters={"rx_packets": 12345, "rx_header_split": 678},
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


def test_a_nic_that_does_not_count_header_split() -> None:
    """Null, not 0."""
    assert read(without("counter:     rx_header_split")).header_split is None
    assert read(without("counter:")).header_split is None


def test_an_interface_without_address() -> None:
    assert read(without("address:")).addresses == []


@pytest.mark.parametrize("state", ["off", "off [fixed]", "off [requested on]"])
@pytest.mark.parametrize("feature", ["scatter-gather", "tx-checksumming"])
def test_an_offload_that_zerocopy_needs_is_off(feature: str, state: str) -> None:
    said = SAID.replace(f"feature:{feature}: on", f"feature:{feature}: {state}")
    assert read(said).missing_offloads == [feature]


def test_an_offload_that_cannot_be_switched_off() -> None:
    assert read(SAID.replace("feature:scatter-gather: on", "feature:scatter-gather: on [fixed]")) == read(
        SAID
    )


def test_offloads_that_are_not_known_do_not_count_as_there() -> None:
    assert set(read(without("feature:")).missing_offloads) == {"scatter-gather", "tx-checksumming"}


@pytest.mark.parametrize(
    "start",
    [
        "/proc/sys/kernel/random/boot_id",
        "/proc/sys/kernel/osrelease",
        "/proc/sys/net/ipv4/tcp_timestamps",
        f"{NIC}/mtu",
        f"{NIC}/carrier_changes",
        f"{NIC}/statistics/rx_missed_errors",
        "notes:",
    ],
)
def test_a_missing_value_is_one_line(start: str) -> None:
    with pytest.raises(RemoteError) as caught:
        read(without(start))
    message = str(caught.value)
    assert message.startswith("receiver1: cannot read the state of data0")
    assert start.removesuffix(":") in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("said", ["", "\n", "garbage", SAID.replace("mtu:4168", "mtu:much")])
def test_garbage_is_one_line(said: str) -> None:
    with pytest.raises(RemoteError, match=r"^receiver1: cannot read the state"):
        read(said)


@pytest.mark.parametrize(
    ("route", "mtu"),
    [
        ("route:198.18.1.1 dev data0 src 198.18.1.2 uid 0 \\    cache mtu 4148 \n", 4148),
        ("route:198.18.1.1 dev data0 src 198.18.1.2 uid 0 \\    cache \n", None),
        ("route:198.18.1.1 via 10.0.0.1 dev eth0 src 10.0.0.2 uid 0 \\    cache mtu lock 1400\n", None),
        ("", None),
    ],
)
def test_mtu_of_the_ipv4_route(route: str, mtu: int | None) -> None:
    assert read(SAID + route).route_mtu_ipv4 == mtu


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
