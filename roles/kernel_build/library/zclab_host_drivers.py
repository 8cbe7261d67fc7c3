# SPDX-License-Identifier: Apache-2.0
"""Module: which drivers a host cannot boot, or not be reached, without. Changes nothing.

It follows the root file system to its disk, and the network interfaces to their devices, and names the
drivers on the way as kernel modules. `data_interface` carries the test traffic; "" if it does not matter.
"""

from __future__ import annotations

import array
import fcntl
import gzip
import json
import os
import re
import socket
import struct
from pathlib import Path

from ansible.module_utils import zclab_host
from ansible.module_utils.basic import AnsibleModule

LAB_KERNEL = re.compile(r"-zclab-[0-9a-f]{10}$")
SIOCETHTOOL = 0x8946
ETHTOOL_GDRVINFO = 3
# A bridge on the way to a device works without its port driver.
NOT_NEEDED = {"pcieport", "pcieportdrv"}
STACKED = {"vlan": "8021q", "bond": "bonding", "bridge": "bridge"}


class Host:
    """Reads a host through its /sys, /proc and /boot; `root` stands in for / in tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.sys = root / "sys"
        self.proc = root / "proc"
        self.boot = root / "boot"

    # --- drivers

    def device_drivers(self, device: Path) -> list[str]:
        """Return the drivers of a device and of the devices that it hangs on, nearest first."""
        found: list[str] = []
        devices = (self.sys / "devices").resolve()
        path = device.resolve()
        while devices in path.parents:
            driver = path / "driver"
            if driver.is_symlink():
                # The module's name is what a kernel tree knows; a built-in driver may have none.
                module = driver / "module"
                name = (module if module.is_symlink() else driver).resolve().name
                if name not in NOT_NEEDED and name not in found:
                    found.append(name)
            path = path.parent
        return found

    def disk_drivers(self, number: str) -> list[str]:
        """Return the drivers of a block device (major:minor), down through mappings and RAID to the disks."""
        block = (self.sys / "dev/block" / number).resolve()
        if not block.is_dir():
            return []
        if (block / "partition").exists():
            block = block.parent
        found: list[str] = []
        if (block / "dm").is_dir():
            found.append("dm_mod")
        level = read(block / "md/level").strip()
        if level:
            found += ["md_mod", "raid456" if level in ("raid4", "raid5", "raid6") else level]
        for slave in children(block / "slaves"):
            found += self.disk_drivers(read(slave / "dev").strip())
        found += self.device_drivers(block)
        # A multipath NVMe disk hangs on a subsystem; the controllers are its links.
        if "nvme-subsystem" in block.parts:
            for controller in children(block.parent):
                if re.fullmatch(r"nvme\d+", controller.name):
                    found += self.device_drivers(controller)
        return unique(found)

    def interface_drivers(self, name: str) -> list[str]:
        """Return the drivers of a network interface, and of those that it is made of (bond, bridge, VLAN)."""
        path = self.sys / "class/net" / name
        found: list[str] = []
        kind = re.search(r"^DEVTYPE=(\w+)$", read(path / "uevent"), re.MULTILINE)
        if kind and kind.group(1) in STACKED:
            found.append(STACKED[kind.group(1)])
        # Some cards need one driver for the device and another for Ethernet, which only the interface names.
        said = ethtool_driver(name).replace("-", "_")
        if said and (self.sys / "module" / said).is_dir():
            found.append(said)
        if (path / "device").exists():
            found += self.device_drivers(path / "device")
        for entry in children(path):
            if entry.name.startswith("lower_"):
                found += self.interface_drivers(entry.name[len("lower_") :])
        return unique(found)

    # --- what matters on this host

    def root_filesystem(self) -> tuple[str, str]:
        """Return (major:minor, type) of the root file system."""
        number, kind = "", ""
        for line in read(self.proc / "self/mountinfo").splitlines():
            fields = line.split()
            if len(fields) > 4 and fields[4] == "/" and "-" in fields:
                kind, source = fields[fields.index("-") + 1 :][:2]
                number = fields[2]
                # A file system that spans devices has a number of its own.
                if number.startswith("0:") and source.startswith("/dev/") and Path(source).exists():
                    device = Path(source).stat().st_rdev
                    number = f"{os.major(device)}:{os.minor(device)}"
        return number, kind

    def default_interfaces(self) -> list[str]:
        """Return the interfaces of the default routes."""
        found = []
        for line in read(self.proc / "net/route").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 7 and fields[1] == fields[7] == "00000000":
                found.append(fields[0])
        for line in read(self.proc / "net/ipv6_route").splitlines():
            fields = line.split()
            if len(fields) == 10 and fields[1] == "00" and fields[9] != "lo":
                found.append(fields[9])
        return unique(found)

    def running(self) -> dict[str, str]:
        """Return release and build id of the kernel that runs."""
        notes = self.sys / "kernel/notes"
        return {
            "release": read(self.proc / "sys/kernel/osrelease").strip(),
            "build_id": zclab_host.build_id(notes.read_bytes()) if notes.exists() else "",
        }

    def config(self, release: str) -> str:
        """Return the configuration of the running kernel, or of the newest that no lab installed."""
        if not LAB_KERNEL.search(release):
            try:
                with gzip.open(self.proc / "config.gz", "rt", encoding="utf-8") as file:
                    return file.read()
            except OSError:
                return read(self.boot / f"config-{release}")
        names = [path.name for path in children(self.boot) if path.name.startswith("config-")]
        others = [name for name in names if not LAB_KERNEL.search(name)]
        return read(self.boot / max(others, key=version_order)) if others else ""


def read(path: Path) -> str:
    """Return the text of a file, empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def children(path: Path) -> list[Path]:
    """Return the entries of a directory in order, none if there is no such directory."""
    return sorted(path.iterdir()) if path.is_dir() else []


def unique(names: list[str]) -> list[str]:
    """Return the names without repeats, in order."""
    return list(dict.fromkeys(names))


def version_order(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts 6.1.10 after 6.1.9."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def ethtool_driver(interface: str) -> str:
    """Return the driver's name as the interface itself says it, empty if it does not."""
    info = array.array("B", struct.pack("I", ETHTOOL_GDRVINFO) + bytes(192))
    request = struct.pack("16sP", interface.encode()[:15], info.buffer_info()[0])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, SIOCETHTOOL, request)
    except OSError:
        return ""
    return info.tobytes()[4:36].split(b"\0")[0].decode(errors="replace")


def management_interfaces(module: AnsibleModule, host: Host) -> list[str]:
    """Return the interface of this SSH connection, or else those of the default routes."""
    client = os.environ.get("SSH_CONNECTION", "").split()
    if client:
        status, output, _ = module.run_command(["ip", "-json", "route", "get", client[0]], check_rc=False)
        try:
            name = json.loads(output)[0]["dev"] if status == 0 else "lo"
        except (ValueError, LookupError):
            name = "lo"
        if name != "lo":
            return [name]
    return host.default_interfaces()


def main() -> None:
    """Report the drivers of this host."""
    module = AnsibleModule(
        argument_spec={"data_interface": {"type": "str", "default": ""}}, supports_check_mode=True
    )
    host = Host()
    data = module.params["data_interface"]
    if data and not (host.sys / "class/net" / data).is_dir():
        module.fail_json(msg=f"interface {data}: this host has none of that name: correct the data interface")
    number, filesystem = host.root_filesystem()
    disk = host.disk_drivers(number) if number else []
    names = unique(management_interfaces(module, host) + ([data] if data else []))
    nics = {name: host.interface_drivers(name) for name in names}
    required = [{"driver": driver, "purpose": "root disk"} for driver in disk]
    if disk:
        required.append({"driver": filesystem, "purpose": "root filesystem"})
    for driver in unique([driver for drivers in nics.values() for driver in drivers]):
        required.append({"driver": driver, "purpose": "NIC"})
    module.exit_json(
        changed=False,
        root_disk_drivers=disk,
        root_filesystem=filesystem,
        nic_drivers=nics,
        required=required,
        running=host.running(),
        running_config=host.config(os.uname().release),
    )


if __name__ == "__main__":
    main()
