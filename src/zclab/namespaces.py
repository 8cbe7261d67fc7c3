# SPDX-License-Identifier: Apache-2.0
"""A lab of network namespaces on this machine: two hosts joined by a veth pair, each reached over real SSH.

No SSH server listens anywhere: the client's ProxyCommand starts one inside the namespace for its connection,
and it ends with that. What a host writes stays its own: the directories that roles write to are its own ones
under the lab's state, mounted in the connection's mount namespace only. Nothing of it is left behind.

Run as a program, as root or through sudo:

    python -m zclab.namespaces up STATE HOST PEER   make the hosts and their link; print what changed, as JSON
    python -m zclab.namespaces down STATE           remove them
    python -m zclab.namespaces door STATE HOST      serve one SSH connection on standard input and output
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from zclab import keys
from zclab.errors import LabError, ZclabError

#: The interface of each host at its end of the link.
DATA_INTERFACE = "data0"
#: Where roles write on a host: each host has its own, empty at first.
_PRIVATE = ("etc/security/limits.d", "root", "run", "tmp", "usr/local/bin", "var/lib")
_SSHD = "/usr/sbin/sshd"
#: Where ip keeps named namespaces; it mounts the directory on itself when it makes the first one.
_NETNS = Path("/run/netns")
_MADE_NETNS = "made_netns"
_MS_BIND = 4096
_SSHD_CONFIG = """\
# Written when the hosts are brought up.
HostKey /run/zclab/host_key
AuthorizedKeysFile /run/zclab/authorized_keys
PidFile none
UsePAM yes
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowTcpForwarding no
X11Forwarding no
PrintMotd no
PrintLastLog no
UseDNS no
Subsystem sftp internal-sftp
"""


class Status(NamedTuple):
    """A host: whether its namespace is there, and how many processes run in it."""

    name: str
    running: bool
    processes: int


def namespace(state_dir: Path, host: str) -> str:
    """Return the name of a host's network namespace; no two labs of any checkout share one."""
    mark = hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:8]
    return f"zclab-{mark}-{host}"


def status(state_dir: Path, hosts: list[str]) -> list[Status]:
    """Return what there is of each host."""
    there = _namespaces()
    found = []
    for host in hosts:
        name = namespace(state_dir, host)
        found.append(Status(host, name in there, len(_processes(name)) if name in there else 0))
    return found


def up(state_dir: Path, hosts: tuple[str, str]) -> list[str]:
    """Make both hosts, where they are not there or not whole; return what was done.

    Raises:
        LabError: something that it takes is missing, or was refused.
    """
    _check_machine()
    changes = []
    if not _NETNS.is_dir():
        (state_dir / _MADE_NETNS).touch()
    there = _namespaces()
    for host in hosts:
        name = namespace(state_dir, host)
        if name not in there:
            _run("ip", "netns", "add", name)
            changes.append(f"made namespace {name}")
        _run("ip", "-n", name, "link", "set", "lo", "up")
    ends = [namespace(state_dir, host) for host in hosts]
    if not all(_has_link(end) for end in ends):
        for end in ends:
            if _has_link(end):  # its other end is gone, or in a namespace that is
                _run("ip", "-n", end, "link", "delete", DATA_INTERFACE)
        _run(
            *("ip", "link", "add", DATA_INTERFACE, "netns", ends[0], "type", "veth"),
            *("peer", "name", DATA_INTERFACE, "netns", ends[1]),
        )
        changes.append(f"joined {ends[0]} and {ends[1]}")
    changes += _ssh_files(state_dir, hosts)
    return changes


def down(state_dir: Path) -> list[str]:
    """Remove every host of a lab with all that runs in it; return what was done.

    Raises:
        LabError: a process does not end, or a namespace can not be removed.
    """
    changes = []
    for name in sorted(_namespaces()):
        if name.startswith(namespace(state_dir, "")):
            _end_processes(name)
            _run("ip", "netns", "delete", name)
            changes.append(f"removed namespace {name}")
    for path in (state_dir / "hosts", state_dir / "ssh_config", state_dir / "known_hosts"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if (state_dir / _MADE_NETNS).exists():
        if not any(_NETNS.iterdir()):  # nobody else has a namespace there by now
            while _NETNS.is_mount():
                _run("umount", str(_NETNS))
            _NETNS.rmdir()
        (state_dir / _MADE_NETNS).unlink()
    return changes


def _check_machine() -> None:
    for program, package in (("ip", "iproute2"), ("ssh-keygen", "openssh-client"), (_SSHD, "openssh-server")):
        if shutil.which(program) is None:
            raise LabError(f"{program} is not installed: install {package}, or run playbooks/controller.yml")


def _run(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LabError(f"{' '.join(command)}: {said}: namespaces need root, and a kernel that has them")
    return done.stdout


def _namespaces() -> set[str]:
    return {line.split()[0] for line in _run("ip", "netns", "list").splitlines() if line.strip()}


def _has_link(name: str) -> bool:
    """Say whether a namespace has its end of a link whose other end is there, too."""
    links = json.loads(_run("ip", "-json", "-n", name, "link", "show") or "[]")
    return any(link.get("ifname") == DATA_INTERFACE and "link_netnsid" in link for link in links)


def _processes(name: str) -> list[int]:
    return [int(pid) for pid in _run("ip", "netns", "pids", name).split()]


def _end_processes(name: str, seconds: float = 5.0) -> None:
    """End what runs in a namespace: asked first, then killed."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, seconds)):
        for pid in _processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not _processes(name):
                return
            time.sleep(0.02)
    raise LabError(f"{name}: pids {_processes(name)} do not end: see what they wait for in /proc/PID/stack")


def _ssh_files(state_dir: Path, hosts: tuple[str, str]) -> list[str]:
    """Write keys and configurations of both ends of SSH; return what was new."""
    owner = state_dir.stat()
    client = state_dir / "client_key"
    public = keys.ensure_key(client, f"zclab {state_dir.name}")
    known = {}
    changed = False
    for host in hosts:
        base = state_dir / "hosts" / host
        for private in _PRIVATE:
            (base / private).mkdir(parents=True, exist_ok=True)
        (base / "tmp").chmod(0o1777)
        (base / "run" / "sshd").mkdir(exist_ok=True)
        own = base / "run" / "zclab"
        known[host] = keys.ensure_key(own / "host_key", f"zclab {host}")
        changed |= keys.write_private(own / "authorized_keys", public + "\n")
        changed |= keys.write_private(own / "sshd_config", _SSHD_CONFIG)
    names = state_dir / "known_hosts"
    config = state_dir / "ssh_config"
    changed |= keys.write_private(
        names, "".join(f"{host} {keys.key_of(key)}\n" for host, key in known.items())
    )
    changed |= keys.write_private(config, _client_config(state_dir, hosts, client, names))
    for path in (client, client.with_name("client_key.pub"), names, config):
        os.chown(path, owner.st_uid, owner.st_gid)  # whoever has the lab logs in, not only root
    return ["wrote the SSH files"] if changed else []


def _client_config(state_dir: Path, hosts: tuple[str, str], client: Path, known: Path) -> str:
    entries = (
        f"""Host {host}
  HostName {host}
  User root
  ProxyCommand {_door_command(state_dir, host)}
  IdentityFile {keys.quoted(client)}
  IdentitiesOnly yes
  UserKnownHostsFile {keys.quoted(known)}
  GlobalKnownHostsFile /dev/null
  HostKeyAlgorithms ssh-ed25519
  StrictHostKeyChecking yes
  UpdateHostKeys no
  PreferredAuthentications publickey
"""
        for host in hosts
    )
    return "# Written when the hosts are brought up.\n" + "\n".join(entries)


def _door_command(state_dir: Path, host: str) -> str:
    words = [sys.executable, "-m", "zclab.namespaces", "door", str(state_dir), host]
    return " ".join(keys.quoted(Path(word)) for word in words)


def door(state_dir: Path, host: str) -> None:
    """Become the SSH server of one connection to a host. Does not return."""
    base = state_dir / "hosts" / host
    inside = [
        "unshare",
        "--uts",
        "--mount",
        "--propagation",
        "private",
        sys.executable,
        "-m",
        "zclab.namespaces",
    ]
    command = ["ip", "netns", "exec", namespace(state_dir, host), *inside, "serve", str(base), host]
    if not base.is_dir():
        raise LabError(f"{host}: this lab is not up: run `zclab up`")
    if os.geteuid() != 0:
        command = ["sudo", "-n", "--preserve-env=PYTHONPATH", *command]
    os.execvp(command[0], command)


def _serve(base: Path, host: str) -> None:
    """Put the host's own directories in place, and become its SSH server. Runs inside the namespaces."""
    libc = ctypes.CDLL(None, use_errno=True)
    # From here on by relative paths: the lab may lie below a directory that is covered on the way.
    os.chdir(base)
    for private in _PRIVATE:
        if libc.mount(private.encode(), f"/{private}".encode(), None, _MS_BIND, None) != 0:
            raise LabError(f"{host}: can not mount over /{private}: {os.strerror(ctypes.get_errno())}")
    encoded = host.encode()
    if libc.sethostname(encoded, len(encoded)) != 0:
        raise LabError(f"{host}: can not set the host name: {os.strerror(ctypes.get_errno())}")
    os.chdir("/")
    os.execv(_SSHD, [_SSHD, "-i", "-f", "/run/zclab/sshd_config"])


def main(arguments: list[str]) -> int:
    """Run one of the commands of this module; return the exit status."""
    os.umask(0o022)
    try:
        match arguments:
            case ["up", state, host, peer]:
                print(json.dumps({"changes": up(Path(state), (host, peer))}))
            case ["down", state]:
                print(json.dumps({"changes": down(Path(state))}))
            case ["door", state, host]:
                door(Path(state), host)
            case ["serve", base, host]:
                _serve(Path(base), host)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except ZclabError as error:
        print(f"zclab: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
