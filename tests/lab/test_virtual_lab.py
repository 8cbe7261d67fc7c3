# SPDX-License-Identifier: Apache-2.0
"""Two real virtual hosts: booted from the cached image, reached by SSH, joined by the data link."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zclab.backends.virtual import lab as hosts
from zclab.backends.virtual.host import Host, sockets_dir
from zclab.backends.virtual.lab import HostSpec, LabSpec

pytestmark = pytest.mark.lab
ADDRESSES = {"sender1": "fd5a:6c61:62:9::1", "receiver1": "fd5a:6c61:62:9::2"}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabSpec]:
    declared = (HostSpec("sender1", "virtio-net", "receiver1"), HostSpec("receiver1", "e1000e", "sender1"))
    lab = LabSpec(tmp_path_factory.mktemp("virtual") / "state", declared)
    try:
        hosts.up(lab, print)
        yield lab
    finally:
        hosts.down(lab.state_dir, purge=True)


def ssh(spec: LabSpec, host: str, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", str(spec.state_dir / "ssh_config"), "-o", "BatchMode=yes", *options, host, command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def output(spec: LabSpec, host: str, command: str) -> str:
    done = ssh(spec, host, command)
    assert done.returncode == 0, str(done)
    return done.stdout


def pids(spec: LabSpec) -> dict[str, int | None]:
    return {one.name: one.pid for one in hosts.status(spec.state_dir)}


def header_splits(spec: LabSpec) -> int:
    match = re.search(r"rx_header_split: (\d+)", output(spec, "receiver1", "ethtool -S data0"))
    assert match is not None
    return int(match[1])


def test_up_again_changes_nothing(spec: LabSpec) -> None:
    before = pids(spec)
    assert not hosts.up(spec).changed
    assert pids(spec) == before and None not in before.values()


def test_each_host_is_who_it_should_be(spec: LabSpec) -> None:
    seen = set()
    for name in ADDRESSES:
        said = output(
            spec,
            name,
            "hostname; cat /etc/machine-id; basename $(readlink /sys/class/net/data0/device/driver)",
        ).split()
        assert said[0] == name
        assert said[2] == ("virtio_net" if name == "sender1" else "e1000e")
        seen.add(said[1])
        assert "mgmt0" in output(spec, name, "ip -o -4 address show to 10.0.2.15")
        assert output(spec, name, "systemctl --failed --plain --no-legend") == ""
        assert output(spec, name, "ip -o address show dev data0 scope global") == ""
    assert len(seen) == 2, "machine ids differ"


def test_only_the_key_of_the_lab_gets_in(spec: LabSpec) -> None:
    refused = ssh(
        spec, "sender1", "true", "-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=any"
    )
    assert refused.returncode == 255 and "Permission denied (publickey)" in refused.stderr
    assert output(spec, "sender1", "grep ^root: /etc/shadow").startswith("root:!")


def test_a_changed_host_key_is_refused(spec: LabSpec, tmp_path: Path) -> None:
    known = (spec.state_dir / "known_hosts").read_text().splitlines()
    swapped = [line.replace("sender1", "x").replace("receiver1", "sender1") for line in known]
    other = tmp_path / "known_hosts"
    other.write_text("\n".join(swapped) + "\n")
    refused = ssh(spec, "sender1", "true", "-o", f"UserKnownHostsFile={other}")
    assert refused.returncode == 255 and "Host key verification failed" in refused.stderr


def test_data_link_carries_whole_pages_and_headers_are_split(spec: LabSpec) -> None:
    for name, address in ADDRESSES.items():
        output(
            spec, name, f"ip link set data0 mtu 4168 up && ip address replace {address}/64 dev data0 nodad"
        )
    peer = ADDRESSES["receiver1"]
    # 4120 + 8 + 40 bytes make 4168: not a byte more fits without fragmentation.
    assert " 0% packet loss" in output(spec, "sender1", f"ping -6 -M do -c 3 -w 30 -s 4120 {peer}")
    assert ssh(spec, "sender1", f"ping -6 -M do -c 1 -w 5 -s 4121 {peer}").returncode != 0
    before = header_splits(spec)
    send = f"exec 3<>/dev/tcp/{peer}/22 && head -c 200 /dev/zero >&3; sleep 1"
    output(spec, "sender1", f"bash -c '{send}'")
    assert header_splits(spec) > before


def test_a_killed_host_is_started_again_and_the_link_survives(spec: LabSpec) -> None:
    before = pids(spec)
    subprocess.run(["kill", "-9", str(before["receiver1"])], check=True)
    while Host(spec.state_dir, "receiver1").running():
        time.sleep(0.1)
    outcome = hosts.up(spec, print)
    assert outcome.changes == ["started receiver1"]
    assert pids(spec)["sender1"] == before["sender1"]
    for name, address in ADDRESSES.items():
        output(
            spec, name, f"ip link set data0 mtu 4168 up && ip address replace {address}/64 dev data0 nodad"
        )
    peer = ADDRESSES["receiver1"]
    assert " 0% packet loss" in output(spec, "sender1", f"ping -6 -M do -c 3 -w 30 -s 4120 {peer}")


@pytest.mark.nightly  # test_role_lab has it each time: a kernel boots once and the default after it panicked
def test_one_entry_boots_once(spec: LabSpec) -> None:
    """update-grub works in the guest; what grub-reboot chose boots once, and then the saved default."""
    release = output(spec, "sender1", "uname -r").strip()
    lines = (
        "menuentry Once --id once {",
        f"linux /boot/vmlinuz-{release} root=/dev/vda1 console=ttyS0,115200n8 rw zclab.once=1",
        f"initrd /boot/initrd.img-{release}",
        "}",
    )
    for line in lines:
        output(spec, "sender1", f"echo '{line}' >>/etc/grub.d/40_custom")
    output(spec, "sender1", "update-grub 2>&1 && grub-set-default 0 && grub-reboot once")
    once = reboot(spec, "sender1")
    assert "zclab.once=1" in once
    after = reboot(spec, "sender1")
    assert "zclab.once" not in after and "panic=10" in after


def reboot(spec: LabSpec, name: str) -> str:
    """Reboot a host and return the new kernel's command line."""
    show = "cat /proc/sys/kernel/random/boot_id"
    before = output(spec, name, show)
    ssh(spec, name, "systemctl reboot")
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        done = ssh(spec, name, f"{show} && cat /proc/cmdline", "-o", "ConnectTimeout=5")
        if done.returncode == 0 and not done.stdout.startswith(before):
            return done.stdout
        time.sleep(1)
    raise AssertionError(f"{name} did not come back")


def test_down_leaves_no_process_lock_or_socket(spec: LabSpec) -> None:
    running = pids(spec)
    hosts.down(spec.state_dir)
    assert all(not Path(f"/proc/{pid}/cmdline").exists() or not alive(pid) for pid in running.values())
    assert set(pids(spec).values()) == {None}
    assert not sockets_dir(spec.state_dir).exists()
    assert not (spec.state_dir / "lock").exists() and not list(spec.state_dir.rglob("pid"))


def alive(pid: int | None) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
