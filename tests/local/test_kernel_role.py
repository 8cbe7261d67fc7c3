# SPDX-License-Identifier: Apache-2.0
"""The role kernel_build: its action through ansible-playbook, and the module that looks at hosts."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import kernel_fake
from tests.role_modules import load, run_module, write_tree

from zclab.base.paths import project_root

DRIVERS = "kernel_build/library/zclab_host_drivers.py"

Play = Callable[..., tuple[int, str]]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Return a function that runs the role with a spec on localhost and gives status and output."""

    def run(
        spec: dict[str, Any],
        *more: str,
        inspect: bool = False,
        hosts: dict[str, Any] | None = None,
        killed_at: Path | None = None,
        **variables: Any,
    ) -> tuple[int, str]:
        role = {
            "role": "kernel_build",
            "kernel_build_variant": "stock",
            "kernel_build_spec": spec,
            **variables,
        }
        plays: list[dict[str, Any]] = [
            {
                "hosts": "localhost",
                "gather_facts": False,
                "roles": [role],
                "tasks": [
                    {
                        "ansible.builtin.copy": {
                            "content": "{{ zclab_artifact | to_json }}",
                            "dest": str(tmp_path / "fact.json"),
                            "mode": "0644",
                        }
                    }
                ],
            }
        ]
        if inspect:
            task = {"ansible.builtin.include_role": {"name": "kernel_build", "tasks_from": "inspect"}}
            plays.insert(0, {"hosts": "all", "gather_facts": False, "tasks": [task]})
        (tmp_path / "play.yml").write_text(yaml.safe_dump(plays))
        inventory = hosts or {"all": {"hosts": {"virtio9": {"ansible_connection": "local"}}}}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
        command = [str(project_root() / ".venv/bin/ansible-playbook"), str(tmp_path / "play.yml")]
        with subprocess.Popen(
            [*command, "-i", str(tmp_path / "hosts.yml"), *more],
            cwd=project_root(),
            env={**os.environ, "ZCLAB_CACHE": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as playbook:
            while killed_at is not None and not killed_at.exists():
                assert playbook.poll() is None, playbook.communicate()
                time.sleep(0.05)
            if killed_at is not None:
                playbook.kill()
            output, _ = playbook.communicate()
        return playbook.returncode, output

    return run


def outcome(output: str) -> str:
    """Return what the building task said of itself: ok or changed."""
    said = output.partition("Build the kernel, or find it built]")[2]
    found = re.search(r"^(\w+): \[localhost\]", said, re.MULTILINE)
    return found[1] if found else output


def using(cache: Path) -> list[int]:
    """Return the processes whose environment names a cache."""
    wanted = f"ZCLAB_CACHE={cache}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def test_a_build_ends_with_its_playbook(play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible's workers are in sessions of their own; nothing of them goes on, and the next build works."""
    compiling, spec = tmp_path / "compiling", {"source": kernel_fake.tarball(tmp_path)}
    with monkeypatch.context() as patched:
        patched.setenv("ZCLAB_FAKE_SLEEP", str(compiling))
        status, _ = play(spec, killed_at=compiling)
    assert status == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while (left := using(tmp_path / "cache")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    status, output = play(spec)
    assert (status, outcome(output)) == (0, "changed"), output


def test_role_builds_once_and_sets_the_fact(play: Play, tmp_path: Path) -> None:
    spec = {"source": kernel_fake.tarball(tmp_path)}
    status, output = play(spec, "--check")
    assert status == 0 and outcome(output) == "changed"
    assert not (tmp_path / "cache/kernel/artifacts").exists(), "check mode built something"
    status, output = play(spec)
    assert status == 0 and outcome(output) == "changed"
    assert "kernel stock: packaging" in output
    fact = json.loads((tmp_path / "fact.json").read_text())
    assert (Path(fact["directory"]) / fact["deb"]).is_file() and fact["variant"] == "stock"
    status, output = play(spec)
    assert status == 0 and outcome(output) == "ok"
    status, output = play(spec, "--check")
    assert status == 0 and outcome(output) == "ok"


def test_base_host_is_the_receivers_configuration(play: Play, tmp_path: Path) -> None:
    """The sender comes first in the inventory, and has another configuration."""

    def seen(config: str) -> dict[str, Any]:
        return {"__kernel_build_host": {"required": [], "running_config": config}}

    senders = {"a_sender": seen("CONFIG_EXT4_FS=y\n")}
    receivers = {"b_receiver": seen("CONFIG_EXT4_FS=m\n"), "c_receiver": seen("CONFIG_NET=y\n")}
    hosts = {"senders": {"hosts": senders}, "receivers": {"hosts": receivers}}
    spec = {"source": kernel_fake.tarball(tmp_path), "config": {"base": "host"}}
    status, output = play(spec, hosts=hosts)
    assert status == 0, output
    fact = json.loads((tmp_path / "fact.json").read_text())
    assert "CONFIG_EXT4_FS=m" in (Path(fact["directory"]) / "config").read_text()
    receivers |= {"b_receiver": seen(""), "c_receiver": seen("")}
    status, output = play(spec, hosts=hosts)
    assert status != 0 and "no running configuration is known: the receiver must be up" in output


def test_role_asks_for_what_inspected_hosts_need(play: Play, tmp_path: Path) -> None:
    """This machine's own drivers are not in the fake tree: the build is refused, and says for which host."""
    if not run_module(DRIVERS, {})["required"]:
        pytest.skip("this machine has neither a disk nor a network driver")
    status, output = play({"source": kernel_fake.tarball(tmp_path)}, inspect=True)
    assert status != 0
    assert "of virtio9 needs driver" in output and "Traceback" not in output


def test_refusals_are_one_line(play: Play, tmp_path: Path) -> None:
    source = kernel_fake.tarball(tmp_path)
    status, output = play({"source": source, "patch": []})
    assert status != 0 and "kernel_build_spec.patch. Supported parameters include: config," in output
    status, output = play({"source": source, "config": {"fragments": ["network", "network"]}})
    assert status != 0 and re.search(
        r"kernel variant stock: config.*: .*fragment named twice: network", output
    )
    status, output = play({"source": source | {"sha256": "0" * 64}})
    assert status != 0 and "sha256 is" in output and "Traceback" not in output
    need = [{"driver": "e1000e", "purpose": "NIC", "host": "r1"}]
    status, output = play({"source": source}, kernel_build_required=need)
    assert status != 0 and "CONFIG_E1000E is not set" in output


# --- what a host has, on file trees that look like hosts


def host(root: Path) -> Any:
    return load(DRIVERS).Host(root)


def device(root: Path, path: str, driver: str = "", module: str = "") -> Path:
    """Make a device directory with its driver links."""
    directory = root / "sys/devices" / path
    directory.mkdir(parents=True, exist_ok=True)
    if driver:
        home = root / "sys/bus/x/drivers" / driver
        home.mkdir(parents=True, exist_ok=True)
        (directory / "driver").symlink_to(home)
        if module:
            (root / "sys/module" / module).mkdir(parents=True, exist_ok=True)
            (home / "module").symlink_to(root / "sys/module" / module)
    return directory


def disk(root: Path, number: str, directory: Path, **files: str) -> None:
    (root / "sys/dev/block").mkdir(parents=True, exist_ok=True)
    write_tree(
        directory, {"dev": number + "\n", **{name.replace("__", "/"): text for name, text in files.items()}}
    )
    (root / "sys/dev/block" / number).symlink_to(directory)


def test_virtio_partition(tmp_path: Path) -> None:
    device(tmp_path, "pci0000:00/0000:00:03.0", "virtio-pci", "virtio_pci")
    device(tmp_path, "pci0000:00/0000:00:03.0/virtio0", "virtio_blk")
    disk(
        tmp_path, "254:1", device(tmp_path, "pci0000:00/0000:00:03.0/virtio0/block/vda/vda1"), partition="1\n"
    )
    assert host(tmp_path).disk_drivers("254:1") == ["virtio_blk", "virtio_pci"]


def test_lvm_on_raid_on_sata(tmp_path: Path) -> None:
    device(tmp_path, "pci0/0000:00:1f.2", "ahci", "ahci")
    device(tmp_path, "pci0/0000:00:1f.2/ata1/host0/target0/0:0:0:0", "sd", "sd_mod")
    sda = device(tmp_path, "pci0/0000:00:1f.2/ata1/host0/target0/0:0:0:0/block/sda")
    disk(tmp_path, "8:0", sda)
    md = device(tmp_path, "virtual/block/md0")
    disk(tmp_path, "9:0", md, md__level="raid1\n")
    dm = device(tmp_path, "virtual/block/dm-0")
    disk(tmp_path, "253:0", dm, dm__name="root\n")
    for upper, lower in ((dm, md), (md, sda)):
        (upper / "slaves").mkdir()
        (upper / "slaves" / lower.name).symlink_to(lower)
    assert host(tmp_path).disk_drivers("253:0") == ["dm_mod", "md_mod", "raid1", "sd_mod", "ahci"]


def test_multipath_nvme(tmp_path: Path) -> None:
    device(tmp_path, "pci0/0000:01:00.0", "nvme", "nvme")
    controller = device(tmp_path, "pci0/0000:01:00.0/nvme/nvme0")
    subsystem = device(tmp_path, "virtual/nvme-subsystem/nvme-subsys0")
    (subsystem / "nvme0").symlink_to(controller)
    disk(tmp_path, "259:0", device(tmp_path, "virtual/nvme-subsystem/nvme-subsys0/nvme0n1"))
    assert host(tmp_path).disk_drivers("259:0") == ["nvme"]


def test_disk_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "sys/devices").mkdir(parents=True)
    assert host(tmp_path).disk_drivers("0:99") == []


def test_interfaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card whose Ethernet driver is another module, under a VLAN; the bridge above it is not needed."""
    device(tmp_path, "pci0/0000:00:1c.0", "pcieport")
    card = device(tmp_path, "pci0/0000:00:1c.0/0000:02:00.0", "mlx4_core", "mlx4_core")
    (tmp_path / "sys/module/mlx4_en").mkdir()
    net = tmp_path / "sys/class/net"
    write_tree(net, {"data0/uevent": "INTERFACE=data0\n", "vlan7/uevent": "DEVTYPE=vlan\nINTERFACE=vlan7\n"})
    (net / "data0/device").symlink_to(card)
    (net / "vlan7/lower_data0").symlink_to(net / "data0")
    module = load(DRIVERS)
    monkeypatch.setattr(
        module, "ethtool_driver", lambda name: "mlx4_en" if name == "data0" else "802.1Q VLAN"
    )
    assert module.Host(tmp_path).interface_drivers("data0") == ["mlx4_en", "mlx4_core"]
    assert module.Host(tmp_path).interface_drivers("vlan7") == ["8021q", "mlx4_en", "mlx4_core"]


def test_root_filesystem_and_routes(tmp_path: Path) -> None:
    mounts = ["1 2 0:5 / /dev rw - devtmpfs x rw", "3 1 254:1 / / rw,noatime shared:1 - ext4 /dev/vda1 rw"]
    routes = [
        "Iface Destination",
        "mgmt0 00000000 A 3 0 0 0 00000000 0",
        "data0 0002000A 0 1 0 0 0 00FFFFFF 0",
    ]
    zero = "0" * 32
    routes6 = [f"{zero} 00 {zero} 00 fe80 400 1 0 3 mgmt6", f"{zero} 00 {zero} 00 {zero} ffff 1 0 2 lo"]
    files = {"self/mountinfo": mounts, "net/route": routes, "net/ipv6_route": routes6}
    write_tree(tmp_path / "proc", {name: "\n".join(lines) + "\n" for name, lines in files.items()})
    assert host(tmp_path).root_filesystem() == ("254:1", "ext4")
    assert host(tmp_path).default_interfaces() == ["mgmt0", "mgmt6"]


def test_config_of_the_running_or_the_newest_other_kernel(tmp_path: Path) -> None:
    """A lab's own kernel is no base for the next one: each build would then depend on the one before."""
    lab = "6.1.192-zclab-0123456789"
    names = ("6.1.0-9-amd64", "6.1.0-10-amd64", lab)
    write_tree(tmp_path / "boot", {f"config-{name}": f"CONFIG_FROM={name}\n" for name in names})
    (tmp_path / "proc").mkdir()
    assert host(tmp_path).config("6.1.0-9-amd64") == "CONFIG_FROM=6.1.0-9-amd64\n"
    with gzip.open(tmp_path / "proc/config.gz", "wt") as file:
        file.write("CONFIG_FROM=proc\n")
    assert host(tmp_path).config("6.1.0-9-amd64") == "CONFIG_FROM=proc\n"
    assert host(tmp_path).config(lab) == "CONFIG_FROM=6.1.0-10-amd64\n"


def test_module_on_this_machine() -> None:
    found = run_module(DRIVERS, {"data_interface": "lo"}, check=True)
    assert found["changed"] is False and found["nic_drivers"]["lo"] == []
    assert {need["purpose"] for need in found["required"]} <= {"root disk", "root filesystem", "NIC"}
    refused = run_module(DRIVERS, {"data_interface": "zclab-none"})
    assert refused["failed"] and "interface zclab-none: this host has none" in refused["msg"]
