# SPDX-License-Identifier: Apache-2.0
"""The roles on two virtual hosts: apply, apply again, restore, and kernels that do not come up.

The tests run in the order of this file; each one leaves the hosts as it found them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.role_lab import ADDRESSES, RECEIVER, SENDER, Played, RoleLab, role_lab

from zclab.kernel import build
from zclab.lab import inventory

pytestmark = pytest.mark.lab

SYSCTLS = {
    "net.core.optmem_max": 1048576,
    "net.core.rmem_max": 16777216,
    "net.ipv4.tcp_rmem": "4096 131072 16777216",
    "net.ipv4.tcp_timestamps": 1,
}
TUNING: list[dict[str, Any]] = [
    {
        "name": "link_tuning",
        "vars": {
            "link_tuning_interface": "data0",
            "link_tuning_addresses": ["{{ address }}"],
            "link_tuning_mtu": 4168,
            "link_tuning_offloads": {"gro": True},
        },
    },
    {
        "name": "host_limits",
        "vars": {
            "host_limits_sysctls": SYSCTLS,
            "host_limits_locked_memory_kib": "unlimited",
            "host_limits_rcvlowat_bytes": 524288,
        },
    },
    {"name": "traffic_tool"},
]
RESTORE: list[dict[str, Any]] = [
    {"name": "link_tuning", "tasks_from": "restore"},
    {"name": "host_limits", "tasks_from": "restore"},
    {"name": "traffic_tool", "tasks_from": "restore"},
]
# Without the keys that the kernel draws by lot, one of them when the first interface comes up.
HOST_STATE = (
    "ip -br link show dev data0; ip -br addr show dev data0; ip -d -4 route show table all; ip rule; "
    "ip -d -6 route show table all | sed 's/ expires [0-9]*sec//' | grep -v fe80 | sort; ls -AR /usr/local; "
    "ethtool -k data0; ethtool -c data0; ethtool -g data0; "
    "sysctl -a 2>/dev/null | grep -E '^net.(core|ipv4.tcp)_?' | grep -vE 'fastopen_key|netdev_rss_key'; "
    "ls -A /etc/security/limits.d /etc/sysctl.d; ls -A /var/lib/zclab 2>/dev/null; true"
)
BOOT_STATE = (
    "uname -r; ls -A /boot /etc/default/grub.d; grep -a = /boot/grub/grubenv; dpkg -l 'linux-image*'; true"
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoleLab]:
    with role_lab(tmp_path_factory.mktemp("role-lab")) as running:
        yield running


def state(lab: RoleLab, command: str) -> dict[str, str]:
    return {host: lab.ssh(host, command) for host in ADDRESSES}


def boot(
    lab: RoleLab, artifact: dict[str, Any], limit: str = "all", check: bool = False, **given: Any
) -> Played:
    variables = {
        "kernel_boot_release": artifact["release"],
        "kernel_boot_build_id": artifact["build_id"],
        "kernel_boot_package": f"{artifact['directory']}/{artifact['deb']}",
        "kernel_boot_console_log": lab.console_log(),
        "kernel_boot_reset_command": lab.reset_command(),
        **given,
    }
    return lab.play({"name": "kernel_boot", "vars": variables}, limit=limit, check=check)


def restore_kernel(lab: RoleLab) -> Played:
    variables = {
        "kernel_boot_console_log": lab.console_log(),
        "kernel_boot_reset_command": lab.reset_command(),
    }
    return lab.play({"name": "kernel_boot", "tasks_from": "restore", "vars": variables})


def test_tuning_applies_holds_and_is_restored(lab: RoleLab) -> None:
    before = state(lab, HOST_STATE)
    assert lab.play(*TUNING, check=True).status == 0
    assert state(lab, HOST_STATE) == before

    first = lab.play(*TUNING)
    assert first.status == 0, first.printed
    assert first.changed() == {SENDER: 3, RECEIVER: 3}
    for host, address in ADDRESSES.items():
        shown = lab.ssh(host, "ip -br addr show dev data0; cat /sys/class/net/data0/mtu")
        assert address in shown
        assert shown.endswith("4168\n")
        assert lab.ssh(host, "sysctl -n net.core.optmem_max; ulimit -l") == "1048576\nunlimited\n"
        assert "usage" in lab.ssh(host, "zclab-traffic --help 2>&1 || true").lower()
    peer = ADDRESSES[RECEIVER].partition("/")[0]
    # A packet as large as the MTU, not to be cut: 40 bytes of IPv6 and 8 of ICMP go on top.
    assert "1 received" in lab.ssh(SENDER, f"ping -c1 -W5 -M do -s {4168 - 48} {peer}")

    second = lab.play(*TUNING)
    assert second.status == 0, second.printed
    assert second.changed() == {SENDER: 0, RECEIVER: 0}
    assert second.remote_tasks(SENDER) == 3

    lab.ssh(SENDER, "ip link set dev data0 mtu 1500; sysctl -qw net.ipv4.tcp_timestamps=0")
    planted = lab.play(*TUNING)
    assert planted.changed() == {SENDER: 2, RECEIVER: 0}
    assert planted.result(SENDER, "Tune the link")["changes"] == ["mtu: 1500 -> 4168"]
    assert planted.result(SENDER, "Set the limits")["changes"] == ["net.ipv4.tcp_timestamps: 0 -> 1"]

    restored = lab.play(*RESTORE)
    assert restored.status == 0, restored.printed
    assert state(lab, HOST_STATE) == before
    assert lab.play(*RESTORE).changed() == {SENDER: 0, RECEIVER: 0}


def test_bad_input_is_one_line(lab: RoleLab) -> None:
    before = state(lab, HOST_STATE)
    link = {"name": "link_tuning", "vars": {**TUNING[0]["vars"], "link_tuning_offloads": {"warp": True}}}
    limits = {"name": "host_limits", "vars": {"host_limits_sysctls": {"net.core.nosuch": 1}}}
    for role, said in ((link, "data0: it has no offload warp"), (limits, "has no sysctl net.core.nosuch")):
        played = lab.play(role)
        assert played.status != 0
        assert said in played.message(SENDER)
        assert "\n" not in played.message(SENDER)
    assert state(lab, HOST_STATE) == before


def test_crashing_kernel_falls_back_by_itself(lab: RoleLab) -> None:
    """The distribution's kernel without its initrd cannot mount the root: it panics."""
    stock = lab.ssh(RECEIVER, "uname -r").strip()
    artifact = lab.broken_artifact("panics", lab.ssh_bytes(RECEIVER, f"cat /boot/vmlinuz-{stock}"))
    played = boot(lab, artifact, limit=RECEIVER)
    assert played.status != 0
    first, *console = played.message(RECEIVER).splitlines()
    assert f"kernel {artifact['release']} did not come up; {stock} runs now" in first
    assert any("Kernel panic - not syncing" in line for line in console)
    assert not any("login:" in line for line in console)
    assert lab.ssh(RECEIVER, "uname -r").strip() == stock
    assert '"outcome": "fell back"' in lab.ssh(RECEIVER, "cat /var/lib/zclab/attempt.json")


def test_hanging_kernel_is_reset(lab: RoleLab) -> None:
    """The boot loader cannot start this image and waits for a key: the host is reset once and comes back."""
    stock = lab.ssh(RECEIVER, "uname -r").strip()
    artifact = lab.broken_artifact("hangs", b"no kernel" * 10000)
    played = boot(lab, artifact, limit=RECEIVER, kernel_boot_timeout=60)
    assert played.status != 0
    said = played.message(RECEIVER).splitlines()[0]
    assert (
        f"kernel {artifact['release']} did not come up within 60 s; it was reset and {stock} runs now" in said
    )
    assert restore_kernel(lab).status == 0
    assert lab.ssh(RECEIVER, "ls /boot").count("zclab") == 0


def test_full_disk_is_refused_before_anything_is_changed(lab: RoleLab) -> None:
    before = lab.ssh(SENDER, BOOT_STATE)
    artifact = lab.broken_artifact("large", b"x")
    lab.ssh(SENDER, "fallocate -l $(($(df --output=avail -B1 / | tail -1) - 2000000)) /var/tmp/full")
    try:
        played = boot(lab, artifact, limit=SENDER)
    finally:
        lab.ssh(SENDER, "rm /var/tmp/full")
    refusal = r".*: /boot has no room for linux-image-.*: \d+ bytes needed, \d+ free.*"
    assert re.fullmatch(refusal, played.message(SENDER))
    assert lab.ssh(SENDER, BOOT_STATE) == before


@pytest.mark.kernel
def test_kernel_is_booted_once_promoted_and_restored(lab: RoleLab) -> None:
    declared = inventory.load("virtual").kernel_variants["stock"]
    built = build.build("stock", declared).artifact
    artifact = {**built.model_dump(mode="json"), "directory": str(built.directory)}
    before = state(lab, BOOT_STATE)

    planned = boot(lab, artifact, check=True)
    assert planned.status == 0, planned.printed
    stock = lab.ssh(SENDER, "uname -r").strip()
    assert planned.result(SENDER, "Install the kernel and ask for one boot of it")["changes"] == [
        f"kernel {built.release}: absent -> installed",
        f"next boot, once: {stock} -> {built.release}",
    ]
    assert state(lab, BOOT_STATE) == before

    first = boot(lab, artifact)
    assert first.status == 0, first.printed
    assert first.changed() == {SENDER: 2, RECEIVER: 2}
    assert set(state(lab, "uname -r").values()) == {f"{built.release}\n"}
    assert first.result(SENDER, "Reboot and prove that the kernel runs")["zclab_timing"]["seconds"] > 0

    again = boot(lab, artifact)
    assert again.changed() == {SENDER: 0, RECEIVER: 0}
    assert again.remote_tasks(SENDER) == 1
    assert not again.result(SENDER, "See which kernel runs")["promoted"]

    # The same release with another build id is not the same kernel.
    lie = boot(lab, {**artifact, "build_id": "0" * 40}, limit=RECEIVER)
    assert f"its build id is {built.build_id}, not the artifact's {'0' * 40}" in lie.message(RECEIVER)

    assert boot(lab, artifact, kernel_boot_promote=True).changed() == {SENDER: 1, RECEIVER: 1}
    assert boot(lab, artifact, kernel_boot_promote=True).changed() == {SENDER: 0, RECEIVER: 0}
    restored = restore_kernel(lab)
    assert restored.status == 0, restored.printed
    assert state(lab, BOOT_STATE) == before
    assert restore_kernel(lab).changed() == {SENDER: 0, RECEIVER: 0}
