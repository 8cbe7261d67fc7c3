# SPDX-License-Identifier: Apache-2.0
"""The keys of a lab: one client key, a host key for each host, and the SSH files that use them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zclab.base.files import write_whole
from zclab.base.process import run

#: How a lab's own key, which is ed25519 as its hosts' keys are, is the only one that is tried.
_OWN_KEY_ONLY = (
    *("IdentitiesOnly yes", "GlobalKnownHostsFile /dev/null", "HostKeyAlgorithms ssh-ed25519"),
    *("UpdateHostKeys no", "PreferredAuthentications publickey"),
)


@dataclass(frozen=True)
class Endpoint:
    """Where a host's SSH server answers: an address and a port, or behind a command that reaches it."""

    address: str
    port: int = 22
    proxy: str | None = None
    user: str = "root"

    @property
    def looked_up(self) -> str:
        """The name under which paramiko looks the host's key up."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"


def write_private(path: Path, text: str) -> bool:
    """Write `text` to a file of mode 0600, whole; return whether that changed its content."""
    if path.is_file() and path.read_text() == text:
        path.chmod(0o600)
        return False
    write_whole(path, text, mode=0o600)
    return True


def ensure_key(path: Path, comment: str) -> str:
    """Return the public half of the ed25519 key at `path`; make the key if it is not there.

    Raises LabError if ssh-keygen is missing or fails.
    """
    public = path.with_name(path.name + ".pub")
    if not (path.is_file() and public.is_file()):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        for old in (new, new.with_name(new.name + ".pub")):
            old.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(new)])
        new.with_name(new.name + ".pub").rename(public)
        new.rename(path)
    path.chmod(0o600)
    return public.read_text().strip()


def key_of(public: str) -> str:
    """Return type and key of a public key's line, without its comment."""
    return " ".join(public.split()[:2])


def known_hosts(hosts: dict[str, tuple[Endpoint, str]]) -> str:
    """Return the text of known_hosts for hosts {name: (endpoint, public host key)}.

    Each key stands under the host's name, which ssh uses, and under its address, which paramiko looks up.
    """
    return "".join(f"{name},{at.looked_up} {key_of(key)}\n" for name, (at, key) in hosts.items())


def without_key(hosts: dict[str, Endpoint], known: Path) -> list[str]:
    """Return the names of those hosts {name: endpoint} for whose address and port a file has no key.

    Lines that paramiko cannot read count for nothing, as they do when it connects.
    """
    from paramiko import HostKeys

    keys = HostKeys()
    if known.is_file():
        keys.load(str(known))
    return [name for name, at in hosts.items() if not keys.lookup(at.looked_up)]


def keyscan_commands(hosts: Iterable[Endpoint]) -> list[str]:
    """Return the commands that print the keys of hosts, one for each port."""
    ports: dict[int, list[str]] = {}
    for at in hosts:
        ports.setdefault(at.port, []).append(at.address)
    return [
        f"ssh-keyscan {f'-p {port} ' if port != 22 else ''}{' '.join(addresses)}"
        for port, addresses in ports.items()
    ]


def ssh_config(hosts: dict[str, Endpoint], known: Path, identity: Path | None = None) -> str:
    """Return the text of ssh_config for hosts {name: endpoint}: their keys are checked.

    identity: the lab's own key, which is the only way in, under each host's name. Without it the user's keys
    are tried, and a host's key is looked up under its address.
    """
    entries = []
    for name, at in hosts.items():
        alias = f" {at.address}" if identity is None and at.address != name else ""
        lines = [f"Host {name}{alias}", f"HostName {at.address}", f"Port {at.port}", f"User {at.user}"]
        lines += [f"ProxyCommand {at.proxy}"] if at.proxy else []
        lines += [f"UserKnownHostsFile {quoted(known)}", "StrictHostKeyChecking yes"]
        if identity is not None:
            lines += [f"IdentityFile {quoted(identity)}", f"HostKeyAlias {name}", *_OWN_KEY_ONLY]
        entries.append("\n  ".join(lines) + "\n")
    return "# Written when the hosts are brought up.\n" + "\n".join(entries)


def write_files(state_dir: Path, identity: Path, hosts: dict[str, tuple[Endpoint, str]]) -> bool:
    """Write known_hosts and ssh_config of a lab; return whether that changed one. hosts: as `known_hosts`."""
    known = state_dir / "known_hosts"
    config = ssh_config({name: at for name, (at, _) in hosts.items()}, known, identity)
    changed = write_private(known, known_hosts(hosts))
    return write_private(state_dir / "ssh_config", config) or changed


def quoted(path: Path) -> str:
    """Return a path as it stands in ssh_config."""
    return f'"{path}"' if " " in str(path) else str(path)
