# SPDX-License-Identifier: Apache-2.0
"""One virtual host: its files and its emulator, whatever the lab declares of it now.

Everything of a host lies in state_dir/hosts/NAME: its disk (an overlay over a base image of the cache), its
host key, what the guest reads at boot (identity/), console.log, qemu.log, pid, and port (the SSH port that
it had last). Sockets lie in the cache, under a short path, where only this user can reach them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import subprocess
import uuid
from datetime import datetime
from pathlib import Path

from zclab.backends.virtual import image, ports, qemu
from zclab.base import paths
from zclab.base.environment import of_child
from zclab.base.errors import LabError
from zclab.base.process import CommandError, run
from zclab.host import ssh_keys

POWEROFF_SECONDS = 25.0
_NAMESPACE = uuid.UUID("0b9f3a52-6d0e-4c3b-9a41-7a8f3c1d5e60")


def sockets_dir(state_dir: Path) -> Path:
    """Return the directory of a lab's sockets: short, since the path of a unix socket is limited."""
    return paths.cache_dir() / "run" / hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:8]


class Host:
    """The files and the emulator of one host."""

    def __init__(self, state_dir: Path, name: str) -> None:
        self.state_dir = state_dir
        self.name = name
        self.directory = state_dir / "hosts" / name
        self.uuid = str(uuid.uuid5(_NAMESPACE, f"{state_dir}\0{name}"))
        self.disk = self.directory / "disk.qcow2"
        self.disk_record = self.directory / "disk.json"
        self.console = self.directory / "console.log"
        self.pidfile = self.directory / "pid"
        self.portfile = self.directory / "port"
        self.host_key = self.directory / "ssh_host_ed25519_key"
        self.qmp = sockets_dir(state_dir) / f"{name}.qmp"
        self.data_socket = sockets_dir(state_dir) / f"{name}.data"

    def running(self) -> qemu.Running | None:
        """Return the live emulator of this host."""
        return qemu.find(self.uuid, self.pidfile)

    def last_port(self) -> int | None:
        """Return the SSH port that this host had last."""
        try:
            port = int(self.portfile.read_text())
        except (OSError, ValueError):
            return None
        return port if 0 < port < 65536 else None

    def mac(self, interface: str) -> str:
        """Return the interface's address: the same for the same lab, another for any other."""
        digest = hashlib.sha256(f"{self.uuid} {interface}".encode()).digest()
        return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])

    def write_identity(self, authorized_key: str) -> bool:
        """Write what the guest takes over at boot; return whether that is something else than before."""
        ssh_keys.ensure_key(self.host_key, self.name)
        directory = self.directory / "identity"
        directory.mkdir(mode=0o700, exist_ok=True)
        interfaces = "".join(f"{name} {self.mac(name)}\n" for name in ("mgmt0", "data0"))
        texts = {
            "hostname": f"{self.name}\n",
            "ssh_host_key": self.host_key.read_text(),
            "authorized_keys": f"{authorized_key}\n",
            "interfaces": interfaces,
        }
        digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()
        changed = [ssh_keys.write_private(directory / name, text) for name, text in texts.items()]
        return ssh_keys.write_private(directory / "identity", f"{digest}\n") or any(changed)

    def identity_files(self) -> dict[str, Path]:
        """Return the guest's firmware files by name."""
        names = ("identity", "hostname", "ssh_host_key", "authorized_keys", "interfaces")
        return {name: self.directory / "identity" / name for name in names}

    def ensure_disk(self, base: image.Image) -> bool:
        """Make the overlay if there is none; return whether it was made. An existing one keeps its base."""
        if self.disk.is_file():
            record = self.image_record()
            if not Path(record.get("base", "/nonexistent")).is_file():
                base_path = record.get("base", "not recorded")
                raise LabError(
                    f"{self.name}: the base image of {self.disk} is gone ({base_path}): "
                    "take the lab down with purge, and up again"
                )
            return False
        image.register_user(base, self.disk)
        ssh_keys.write_private(
            self.disk_record, json.dumps({"image_key": base.key, "base": str(base.path)}) + "\n"
        )
        new = self.disk.with_name("disk.new")
        new.unlink(missing_ok=True)
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base.path), str(new)]
        try:
            run(command)
        except CommandError as error:
            new.unlink(missing_ok=True)
            raise LabError(f"{self.name}: {error}") from error
        new.chmod(0o600)
        new.rename(self.disk)
        return True

    def image_record(self) -> dict[str, str]:
        """Return {image_key, base} of the disk, empty if that is not on record."""
        try:
            record = json.loads(self.disk_record.read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def emulator(self, *, memory_mib: int, cpus: int, nic_model: str, peer: str | None) -> qemu.Emulator:
        """Return the emulator of this host for a declaration. peer: the host at the data link's other end."""
        peer_socket = Host(self.state_dir, peer).data_socket if peer else None
        return qemu.Emulator(
            name=self.name,
            uuid=self.uuid,
            memory_mib=memory_mib,
            cpus=cpus,
            nic_model=nic_model,
            management_mac=self.mac("mgmt0"),
            data_mac=self.mac("data0"),
            disk=self.disk,
            console=self.console,
            qmp=self.qmp,
            pidfile=self.pidfile,
            log=self.directory / "qemu.log",
            firmware_files=self.identity_files(),
            data_link=(self.data_socket, peer_socket) if peer_socket else None,
        )

    def mark_console(self, text: str) -> None:
        """Add a line of our own to the console log, which keeps what earlier starts wrote."""
        time_now = datetime.now().astimezone().isoformat(timespec="seconds")
        with self.console.open("a") as log:
            log.write(f"\n--- zclab: {time_now} {self.name}: {text}\n")

    def last_words(self) -> str:
        """Return the last line of the console log, for an error message."""
        if not self.console.is_file():
            return "nothing on the console"
        with self.console.open("rb") as log:
            log.seek(max(0, self.console.stat().st_size - 4096))
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[^\x20-\x7e\n]", "", log.read().decode(errors="replace"))
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"last on the console: {lines[-1][:160]!r}" if lines else "nothing on the console"

    def stop(self, *, gracefully: bool) -> bool:
        """Stop the host and remove its sockets and pidfile; return whether it ran."""
        running = self.running()
        if running is not None:
            gone = False
            if gracefully and self._ssh("poweroff", 10.0) is not None:
                gone = qemu.wait_gone(running.pid, self.uuid, POWEROFF_SECONDS)
            if not gone:
                qemu.ask(self.qmp, "quit")
                gone = qemu.wait_gone(running.pid, self.uuid, 5.0)
            if not gone:
                qemu.end(running.pid, self.uuid)
            self.mark_console("stopped")
        for path in (self.qmp, self.data_socket, self.pidfile):
            path.unlink(missing_ok=True)
        return running is not None

    def banner(self, port: int) -> bool:
        """Return whether the guest's SSH server speaks. The emulator accepts connections before it does."""
        with contextlib.suppress(OSError), socket.create_connection((ports.LOOPBACK, port), 5.0) as probe:
            probe.settimeout(5.0)
            return probe.recv(16).startswith(b"SSH-")
        return False

    def login_problem(self) -> str:
        """Log in once, as every later connection does; return what is wrong with that, empty if nothing."""
        problem = self._ssh("true", 60.0)
        return "no answer" if problem is None else problem

    def _ssh(self, command: str, seconds: float) -> str | None:
        """Run a command on the host; return "" if it worked, else ssh's last line, None without an end."""
        config = self.state_dir / "ssh_config"
        words = ["ssh", "-F", str(config), "-o", "BatchMode=yes", "-o", f"ConnectTimeout={seconds:.0f}"]
        try:
            done = subprocess.run(
                [*words, self.name, command],
                env=of_child(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except (subprocess.TimeoutExpired, FileNotFoundError):
            return None
        if done.returncode == 0 or (command == "poweroff" and done.returncode == 255):
            return ""
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
