# SPDX-License-Identifier: Apache-2.0
"""Make and remove the hosts of a namespaces lab: namespaces, links between them, keys, each host's own files.

What the connections of a host would write to the machine goes to the host's tree (state_dir/hosts/NAME):
sshd_in_netns.sh mounts it over the machine's directories. Beside it are keys/, ssh_config and known_hosts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from zclab.base.environment import of_child
from zclab.base.errors import LabError, UsageError
from zclab.base.locks import lab_lock
from zclab.host import ssh_keys

SSHD_IN_NETNS = Path(__file__).with_name("sshd_in_netns.sh")
#: Where ip keeps named namespaces; it makes the directory, and mounts it on itself, for the first one.
NETNS_DIR = Path("/run/netns")
_MADE_NETNS_DIR = "made_netns_dir"
#: Debian's packages of the programs that it takes.
_PROGRAMS = {"ip": "iproute2", "ssh-keygen": "openssh-client", "/usr/sbin/sshd": "openssh-server"}
#: Directories of the machine that a host has its own of, with their modes.
DIRECTORIES = {
    "/dev/shm": 0o1777,
    "/etc/security/limits.d": 0o755,
    "/etc/ssh": 0o755,
    "/root": 0o700,
    "/run": 0o755,
    "/tmp": 0o1777,
    "/usr/local/bin": 0o755,
    "/usr/local/sbin": 0o755,
    "/var/lib": 0o755,
    "/var/log": 0o755,
    "/var/tmp": 0o1777,
}
#: What sshd and a login need to be there, below these.
_INNER_DIRECTORIES = {"/run/sshd": 0o755, "/etc/pam.d": 0o755}
_PAM_FILE = "/etc/pam.d/sshd"
_PAM = """# Keys only; the limits of a login are the host's own.
auth required pam_deny.so
account required pam_permit.so
session required pam_limits.so
"""
_SSHD_CONFIG = """HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM yes
UseDNS no
PrintMotd no
PrintLastLog no
LogLevel ERROR
Subsystem sftp internal-sftp
"""
#: The last thing that the playbooks put on a host.
_LAST_FILE = "usr/local/bin/zclab-traffic"
_END_SECONDS = 10.0


@dataclass(frozen=True)
class HostSpec:
    """One host: the interface that it gets, and the host at the other end of its link."""

    name: str
    interface: str
    peer: str


@dataclass(frozen=True)
class LabSpec:
    """A lab's hosts, and the smallest values that sysctls of the machine must have, by name."""

    state_dir: Path
    hosts: tuple[HostSpec, ...]
    machine_sysctls: dict[str, int]

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> LabSpec:
        """Take what is needed from the resolved lab, the `zclab` fact."""
        hosts = tuple(HostSpec(host["name"], host["data_interface"], host["peer"]) for host in facts["hosts"])
        return cls(Path(facts["state_dir"]).resolve(), hosts, dict(facts["limits"]["machine_sysctls"]))


class Status(NamedTuple):
    """A host: whether its namespace is there, and how many processes run on it."""

    name: str
    running: bool
    processes: int


def namespace(state_dir: Path, host: str) -> str:
    """Return the name of a host's network namespace; no two labs of any checkout share one."""
    mark = hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:8]
    return f"zclab-{mark}-{host}"


def tree(state_dir: Path, host: str) -> Path:
    """Return the directory with a host's own files."""
    return state_dir.resolve() / "hosts" / host


def status(state_dir: Path, hosts: list[str]) -> list[Status]:
    """Return what there is of each host."""
    found = []
    for host in hosts:
        there = (NETNS_DIR / namespace(state_dir, host)).exists()
        found.append(Status(host, there, len(processes(state_dir, host)) if there else 0))
    return found


def ready(state_dir: Path, hosts: list[str]) -> bool:
    """Return whether the hosts are there and were set up to the end."""
    there = [(NETNS_DIR / namespace(state_dir, host)).exists() for host in hosts]
    return all(there) and all((tree(state_dir, host) / _LAST_FILE).is_file() for host in hosts)


def up(spec: LabSpec, check: bool = False) -> list[str]:
    """Make the hosts as declared, and return what was changed, one line each; with `check` only say it.

    What is so already is left alone.

    Raises:
        LabError: this machine is not fit for the lab, or a command failed.
        UsageError: the state directory's path cannot be used in an ssh_config.
    """
    _check_machine(spec)
    # To look needs no lock, which would leave a file where there is no lab.
    with contextlib.nullcontext() if check else lab_lock(spec.state_dir):
        changes = [] if check else _ssh_files(spec)
        for host in spec.hosts:
            name = namespace(spec.state_dir, host.name)
            if _links(name) is None:
                changes.append(f"{host.name}: made network namespace {name}")
                if not check:
                    _make_namespace(spec.state_dir, host.name)
        if check and changes:
            return changes  # what else there is to do can be told once they are there
        for host in spec.hosts:
            changes += _loopback(spec, host, check)
            changes += _files(spec, host, check)
        for host, peer in _pairs(spec):
            changes += _link(spec, host, peer, check)
    return changes


def _check_machine(spec: LabSpec) -> None:
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            raise LabError(f"{program} is not installed: install {package}, or run playbooks/controller.yml")
    if odd := sorted(set("~%\"'\n") & set(f"{spec.state_dir}{SSHD_IN_NETNS}")):
        raise UsageError(f"{spec.state_dir}: a path with {odd[0]!r} cannot be used in an ssh_config: move it")
    for name, least in spec.machine_sysctls.items():
        try:
            value = int(Path("/proc/sys", *name.split(".")).read_text(encoding="ascii"))
        except (OSError, ValueError):
            raise LabError(
                f"this machine has no sysctl {name} that is a number: correct zclab_limits.machine_sysctls"
            ) from None
        if value < least:
            raise LabError(
                f"this machine: sysctl {name} is {value}, the lab needs {least}: "
                f"run `sudo sysctl -w {name}={least}`"
            )


def _ssh_files(spec: LabSpec) -> list[str]:
    """Make the keys that are missing, and write the client's SSH files; they belong to the lab's owner."""
    owner = spec.state_dir.stat()
    identity = spec.state_dir / "keys" / "id_ed25519"
    ssh_keys.ensure_key(identity, f"zclab {spec.state_dir.name}")
    hosts = {}
    for host in spec.hosts:
        name = namespace(spec.state_dir, host.name)
        command = ["sh", str(SSHD_IN_NETNS), name, str(tree(spec.state_dir, host.name)), host.name]
        public = ssh_keys.ensure_key(_host_key(spec.state_dir, host.name), host.name)
        # The address is never looked up: it tells the hosts of this lab from those of others.
        hosts[host.name] = (ssh_keys.Endpoint(name, proxy=shlex.join(command)), public)
    changed = ssh_keys.write_files(spec.state_dir, identity, hosts)
    written = [spec.state_dir / name for name in ("known_hosts", "ssh_config", "keys")]
    for path in (*written, *identity.parent.iterdir()):
        os.chown(path, owner.st_uid, owner.st_gid)
    return ["wrote the SSH files"] if changed else []


def _host_key(state_dir: Path, host: str) -> Path:
    return state_dir / "keys" / host


def _make_namespace(state_dir: Path, host: str) -> None:
    """Make the namespace of a host anew, without anything that was left of an earlier one."""
    _remove(state_dir, host)
    if not NETNS_DIR.is_dir():
        (state_dir / _MADE_NETNS_DIR).touch()
    _run("ip", "netns", "add", namespace(state_dir, host))


def down(state_dir: Path) -> list[str]:
    """End every host that the lab ever made, and return what was changed, one line each.

    Nothing is left but the lab's keys.

    Raises:
        LabError: something cannot be ended or removed.
    """
    changes = []
    hosts = _made(state_dir)
    if not hosts and not state_dir.is_dir():
        return []
    with lab_lock(state_dir):
        for host in hosts:
            _remove(state_dir, host)
            changes.append(f"{host}: removed")
        _remove_netns_dir(state_dir)
        for path in state_dir.iterdir():
            if path.is_dir() and path.name != "keys":
                shutil.rmtree(path)
            elif path.is_file() and path.name != "lock":
                path.unlink()
        # Whoever waits for the lock notices that its file is gone, and takes a new one.
        (state_dir / "lock").unlink()
    return changes


def _remove_netns_dir(state_dir: Path) -> None:
    """Undo the mount that ip made for this lab's first namespace, unless others have some there by now.

    Raises:
        LabError: a process is in the directory.
    """
    if not (state_dir / _MADE_NETNS_DIR).exists():
        return
    while NETNS_DIR.is_dir() and not any(NETNS_DIR.iterdir()):
        # It is mounted on itself, which Path.is_mount() does not see.
        done = _call("umount", str(NETNS_DIR))
        try:
            NETNS_DIR.rmdir()
        except OSError as error:
            if done.returncode and not any(NETNS_DIR.iterdir()):
                reason = ", ".join(_users(NETNS_DIR)) or f"what is not seen here ({error.strerror})"
                raise LabError(
                    f"{NETNS_DIR}: in use by {reason}: end it, then take the lab down again"
                ) from None


def _users(directory: Path) -> list[str]:
    """Return the processes that work in a directory, or hold it or a file in it open, by name and number."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended
            links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
            if any(link.readlink().is_relative_to(directory) for link in links):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                found.append(f"{name} (process {process.name})")
    return found


def _made(state_dir: Path) -> list[str]:
    """Return the names of the hosts of which there is a namespace or a file."""
    start = namespace(state_dir, "")
    names = {path.name.removeprefix(start) for path in NETNS_DIR.glob(f"{start}*")}
    return sorted(names | {path.name for path in (state_dir / "hosts").glob("*")})


def _links(name: str) -> dict[str, dict[str, Any]] | None:
    """Return the interfaces of a network namespace by name, None if there is no such namespace."""
    if not (NETNS_DIR / name).exists():
        return None
    done = _call("ip", "-n", name, "-j", "link", "show")
    return None if done.returncode else {link["ifname"]: link for link in json.loads(done.stdout)}


def processes(state_dir: Path, host: str) -> set[int]:
    """Return the processes of a host: in its namespace, or in one that had its name, with its own files."""
    name = namespace(state_dir, host)
    found = set()
    if (NETNS_DIR / name).exists():
        found = {int(word) for word in _call("ip", "netns", "pids", name).stdout.split()}
    run = tree(state_dir, host) / "run"
    if run.is_dir():
        own = run.stat()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.path.samestat(own, (process / "root" / "run").stat()):
                    found.add(int(process.name))
            except OSError:
                continue  # it ended
    return found - {os.getpid()}


def _remove(state_dir: Path, host: str) -> None:
    """End a host's processes, then remove its namespace, its end of the link with it, and its files."""
    deadline = time.monotonic() + _END_SECONDS
    while left := processes(state_dir, host):
        if time.monotonic() > deadline:
            raise LabError(f"{host}: processes {left} do not end: see what holds them, then try again")
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    if (NETNS_DIR / namespace(state_dir, host)).exists():
        _run("ip", "netns", "del", namespace(state_dir, host))
    if tree(state_dir, host).is_dir():
        shutil.rmtree(tree(state_dir, host))


def _loopback(spec: LabSpec, host: HostSpec, check: bool) -> list[str]:
    name = namespace(spec.state_dir, host.name)
    if "UP" in (_links(name) or {})["lo"]["flags"]:
        return []
    if not check:
        _run("ip", "-n", name, "link", "set", "dev", "lo", "up")
    return [f"{host.name}: brought lo up"]


def _files(spec: LabSpec, host: HostSpec, check: bool) -> list[str]:
    """Make the host's own directories, and the files that a login reads."""
    top = tree(spec.state_dir, host.name)
    directories = {**DIRECTORIES, **_INNER_DIRECTORIES}
    mounts = [path for path in [*DIRECTORIES, _PAM_FILE] if Path(path).exists()]
    public = (spec.state_dir / "keys" / "id_ed25519.pub").read_text(encoding="utf-8")
    texts = {
        "/etc/ssh/sshd_config": _SSHD_CONFIG,
        "/etc/ssh/authorized_keys": public,
        "/etc/ssh/ssh_host_ed25519_key": _host_key(spec.state_dir, host.name).read_text(encoding="utf-8"),
        _PAM_FILE: _PAM,
        "/mounts": "".join(f"{path}\n" for path in mounts),
    }
    missing = [path for path in directories if not (top / path[1:]).is_dir()]
    stale = [path for path, text in texts.items() if _text(top / path[1:]) != text]
    if not check:
        for path in missing:
            (top / path[1:]).mkdir(parents=True)
            (top / path[1:]).chmod(directories[path])
        for path in stale:
            ssh_keys.write_private(top / path[1:], texts[path])
    return [f"{host.name}: wrote its files"] if missing or stale else []


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _pairs(spec: LabSpec) -> list[tuple[HostSpec, HostSpec]]:
    """Return each two hosts that are joined, once."""
    by_name = {host.name: host for host in spec.hosts}
    return [(host, by_name[host.peer]) for host in spec.hosts if host.name < host.peer]


def _link(spec: LabSpec, host: HostSpec, peer: HostSpec, check: bool) -> list[str]:
    """Join two hosts by a veth pair, unless they are."""
    here, there = namespace(spec.state_dir, host.name), namespace(spec.state_dir, peer.name)
    one, other = (_links(here) or {}).get(host.interface), (_links(there) or {}).get(peer.interface)
    if one and other and one.get("link_index") == other["ifindex"] and other["link_index"] == one["ifindex"]:
        return []
    if not check:
        for name, interface in ((here, host.interface), (there, peer.interface)):
            if interface in (_links(name) or {}):
                _run("ip", "-n", name, "link", "del", "dev", interface)
        _run(
            *("ip", "link", "add", host.interface, "netns", here, "type", "veth"),
            *("peer", "name", peer.interface, "netns", there),
        )
    return [f"{host.name}: joined to {peer.name} by a veth pair"]


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=of_child(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def _run(*command: str) -> None:
    """Run a command that must succeed.

    Raises:
        LabError: it failed, or is not installed.
    """
    try:
        done = _call(*command)
    except FileNotFoundError:
        raise LabError(f"{command[0]} is not installed: run playbooks/controller.yml") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise LabError(f"{' '.join(command)}: {said}")
