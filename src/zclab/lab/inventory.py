# SPDX-License-Identifier: Apache-2.0
"""The inventory model: what a lab is and what it expects, read once and checked before anything is touched.

Ansible reads the files (`ansible-inventory --list`); pydantic checks the values. An error is one line that
names the file, the key and what to do.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from zclab.base import renamed_keys
from zclab.base.environment import ansible, of_child
from zclab.base.errors import UsageError
from zclab.base.model import Role
from zclab.base.paths import lab_dir, project_root, state_dir
from zclab.lab import addresses, connection
from zclab.lab.model import KINDS, Host, Lab

# What an inventory declares under zclab_NAME: fields of a lab, on which every host must agree, and of a host.
_EXPECTED = ("link", "validity", "thresholds", "not_gated", "smallest_effect", "baseline")
_LAB_FIELDS = (
    *("kind", "plan", "limits", "virtual", "exact", "kernel_variant", "kernel_variants"),
    *(*_EXPECTED, "crosscheck"),
)
_HOST_FIELDS = (
    *("pair", "data_interface", "data_address", "data_address_ipv4"),
    *("nic_model", "ssh_port", "tuning", "traffic_cpus"),
)
_KEYS = {field: f"zclab_{field}" for field in (*_LAB_FIELDS, *_HOST_FIELDS)}


class _Source:
    """Finds the file of an inventory that gives a key, for error messages."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def file_of(self, key: str, host: str = "", role: str = "") -> str:
        """Return the file that defines `key` (for a host of a role), relative to the inventory's parent."""

        def rank(path: Path) -> int:
            """Order files as Ansible does: what is said of the host alone counts most."""
            kind, *names = path.relative_to(self.directory).with_suffix("").parts
            if kind not in ("group_vars", "host_vars"):
                return 1 if _says_of(host, key, path) else 4
            order = [("host_vars", host), ("", ""), ("group_vars", f"{role}s"), ("group_vars", "all")]
            return next((at for at, (of, name) in enumerate(order) if kind == of and name in names), 5)

        paths = sorted(self.directory.rglob("*.y*ml"))
        for path in sorted(paths, key=rank) if host else paths:
            if re.search(rf"^\s*{re.escape(key)}\s*:", path.read_text(encoding="utf-8"), re.MULTILINE):
                return str(path.relative_to(self.directory.parent))
        return str(self.directory.relative_to(self.directory.parent))

    def error(self, key: str, problem: str, host: str = "", role: str = "") -> UsageError:
        return UsageError(f"{self.file_of(key.partition('.')[0], host, role)}: {key}: {problem}")

    def not_yaml(self) -> UsageError | None:
        """Return what is wrong with the first file that is not YAML, where Ansible names none."""
        for path in sorted(self.directory.rglob("*.y*ml")):
            try:
                for _ in yaml.parse(path.read_text(encoding="utf-8")):
                    pass
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                place = path.relative_to(self.directory.parent)
                return UsageError(f"{place}: not YAML: {' '.join(str(error).split())}")
        return None


def _says_of(host: str, key: str, path: Path) -> bool:
    """Return whether an inventory file gives a key for this very host."""

    def inner(data: Any) -> bool:
        if not isinstance(data, dict):
            return False
        return key in (data.get(host) or {}) or any(map(inner, data.values()))

    try:
        return inner(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, TypeError):
        return False


def names() -> list[str]:
    """Return the names of the labs under inventory/."""
    return sorted(path.parent.name for path in (project_root() / "inventory").glob("*/hosts.yml"))


def file_of(directory: Path, key: str) -> str:
    """Return the file of an inventory that declares a key, relative to the inventory's parent."""
    return _Source(directory).file_of(key)


def load(name_or_path: str | Path) -> Lab:
    """Read and check a lab given as a name under inventory/ or as a directory.

    Raises:
        UsageError: the inventory is missing, cannot be parsed, or has an impossible value.
    """
    directory = lab_dir(name_or_path)
    if not directory.is_dir():
        raise UsageError(f"{name_or_path}: no such lab: name one of {', '.join(names())}, or a directory")
    return parse(directory, _ansible_inventory(directory))


def _ansible_inventory(directory: Path) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(directory), "--list"]
    unparsed_is_failed = {
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
    }
    environment = of_child({**ansible(), **unparsed_is_failed})
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode != 0:
        if problem := _Source(directory).not_yaml():
            raise problem
        reason = " ".join(line.strip() for line in done.stderr.splitlines() if line.strip())
        raise UsageError(f"{directory}: ansible-inventory cannot read this inventory: {reason}")
    listing: dict[str, Any] = json.loads(done.stdout)
    return listing


def parse(directory: Path, listing: dict[str, Any]) -> Lab:
    """Make the model from what `ansible-inventory --list` printed.

    Raises:
        UsageError: one line naming the file and the key.
    """
    source = _Source(directory)
    listed: dict[str, dict[str, Any]] = listing.get("_meta", {}).get("hostvars", {})
    roles: dict[str, Role] = {
        **dict.fromkeys(listing.get("senders", {}).get("hosts", []), "sender"),
        **dict.fromkeys(listing.get("receivers", {}).get("hosts", []), "receiver"),
    }
    # A host that declares nothing is in its group only.
    hostvars = {**{name: {} for name in roles}, **listed}
    for name, variables in hostvars.items():
        _check_keys(source, name, variables, roles)
    for role in ("sender", "receiver"):
        if role not in roles.values():
            raise source.error(f"{role}s", f"this lab has no {role}: add a host to the group {role}s")

    _check_connections(source, hostvars, roles)
    common = {field: _agreed(source, field, hostvars) for field in _LAB_FIELDS}
    hosts = _hosts(source, {name: hostvars[name] for name in roles}, roles)
    fields = {field: value for field, value in common.items() if value is not None}
    fields["expectations"] = _expectations(fields)
    try:
        lab = Lab(
            name=directory.name, lab_dir=directory, state_dir=state_dir(directory), hosts=hosts, **fields
        )
    except ValidationError as error:
        raise _first_problem(source, error, fields) from None
    _check_whole(source, lab)
    return _with_link_of_guest(lab)


def _with_link_of_guest(lab: Lab) -> Lab:
    """Return a lab whose hosts have the link of its guest as their NIC, if both are in one guest."""
    if lab.exact is None:
        return lab
    hosts = [host.model_copy(update={"nic_model": lab.exact.link}) for host in lab.hosts]
    return lab.model_copy(update={"hosts": hosts})


def _check_keys(source: _Source, host: str, variables: dict[str, Any], roles: dict[str, Role]) -> None:
    if host not in roles:
        raise source.error(host, f"{host} is neither in group senders nor in group receivers")
    for key, value in variables.items():
        if key.startswith("zclab_") and (renamed := renamed_keys.problem({key: value})):
            raise source.error(*renamed, host, roles[host])
        if key.startswith("ansible_"):
            continue
        if key in _KEYS.values():
            for place in connection.templates(key, value):
                text = (
                    "Ansible would evaluate it, zclab does not: write the value itself (no Jinja, no vault)"
                )
                raise source.error(place, text, host, roles[host])
            continue
        raise source.error(key, "unknown key: remove it or correct its name (docs/inventory.md lists them)")


def _check_connections(source: _Source, hostvars: dict[str, dict[str, Any]], roles: dict[str, Role]) -> None:
    for name, variables in hostvars.items():
        kind = KINDS.get(str(variables.get("zclab_kind")))
        made, one_guest = (kind.made, kind.one_guest) if kind else (False, False)
        for key, text in connection.problems(name, variables, made=made, reached=not one_guest):
            raise source.error(key, text, name, roles[name])


def _agreed(source: _Source, field: str, hostvars: dict[str, dict[str, Any]]) -> Any:
    """Return the one value that all hosts have for a key of the lab."""
    key = _KEYS[field]
    values = [variables.get(key) for variables in hostvars.values()]
    if any(value != values[0] for value in values):
        raise source.error(key, "differs between hosts: declare it once, in group_vars/all")
    return values[0]


def _expectations(fields: dict[str, Any]) -> dict[str, Any]:
    """Take what a lab expects out of its declared values; Lab says what is wrong with those."""

    def inner(field: str, key: str) -> Any:
        return fields[field].get(key) if isinstance(fields.get(field), dict) else None

    kind = KINDS.get(str(fields.get("kind")))
    return {
        "thresholds": [],
        **{field: fields.pop(field) for field in _EXPECTED if field in fields},
        "rcvlowat_bytes": inner("limits", "rcvlowat_bytes"),
        "shared_cpu": kind is not None and kind.one_machine,
        "counts_instructions": kind is not None and kind.one_guest,
    }


def _hosts(source: _Source, hostvars: dict[str, dict[str, Any]], roles: dict[str, Role]) -> list[Host]:
    pairs = [(variables.get("zclab_pair"), roles[name]) for name, variables in hostvars.items()]
    hosts = []
    for name, variables in hostvars.items():
        for field in _HOST_FIELDS:
            if _KEYS[field] not in variables and Host.model_fields[field].is_required():
                raise source.error(_KEYS[field], f"missing for host {name}", name, roles[name])
        number = variables["zclab_pair"]
        if any(pairs.count((number, role)) != 1 for role in ("sender", "receiver")):
            raise source.error("zclab_pair", f"pair {number} needs exactly one sender and one receiver")
        peer = next(
            other
            for other, its in hostvars.items()
            if its.get("zclab_pair") == number and roles[other] != roles[name]
        )
        fields = {field: variables[_KEYS[field]] for field in _HOST_FIELDS if _KEYS[field] in variables}
        try:
            hosts.append(
                Host(
                    name=name,
                    role=roles[name],
                    peer=peer,
                    peer_address=str(hostvars[peer].get("zclab_data_address", "")).partition("/")[0],
                    peer_address_ipv4=_bare(hostvars[peer].get("zclab_data_address_ipv4")),
                    address=str(variables.get("ansible_host", name)),
                    user=str(variables.get("ansible_user", "root")),
                    port=variables.get("ansible_port", 22),
                    **fields,
                )
            )
        except ValidationError as error:
            raise _first_problem(source, error, fields, name, roles[name]) from None
    if not any(host.pair == 1 for host in hosts):
        raise source.error("zclab_pair", "no pair is number 1, which runs measure: number the pairs from 1")
    return hosts


def _bare(address: Any) -> str | None:
    return str(address).partition("/")[0] if address is not None else None


def _path(loc: tuple[int | str, ...], given: Any) -> list[str]:
    """Return the keys of a place in what was given, without the names of types that pydantic puts between."""
    found = []
    for part in loc:
        if isinstance(part, int):
            given = given[part] if isinstance(given, list | tuple) else None
        elif isinstance(given, dict) and part in given:
            given = given[part]
        elif not (isinstance(given, dict) and part == loc[-1] and part.isidentifier()):
            continue
        found.append(str(part))
    return found


def _first_problem(
    source: _Source, error: ValidationError, given: dict[str, Any], host: str = "", role: str = ""
) -> UsageError:
    problem = error.errors()[0]
    field, *inner = _path(problem["loc"], given)
    if field == "expectations":
        field, *inner = inner
    key = ".".join([_KEYS.get(field, field), *inner])
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        text = "unknown key: remove it or correct its name (docs/inventory.md lists them)"
    elif problem["type"] == "missing":
        units = " (ratio, gbit_per_s or usec_per_mib)" if inner[-1:] == ["unit"] else ""
        text = "missing: declare it" + (units if inner or host else " in group_vars/all")
    elif problem["type"] != "value_error":
        text = f"{text[0].lower()}{text[1:]}, not {problem['input']!r}"
    return source.error(key, text, host, role)


def _check_whole(source: _Source, lab: Lab) -> None:
    """Check values against each other."""
    if not lab.traits.boots_kernels and lab.kernel_variant is not None:
        raise source.error(
            "zclab_kernel_variant", "network namespaces run this machine's own kernel: leave it out"
        )
    if lab.traits.boots_kernels and lab.kernel_variant is None:
        raise source.error("zclab_kernel_variant", "missing: declare it in group_vars/all")
    if lab.kernel_variant is not None and lab.kernel_variant not in lab.kernel_variants:
        known = ", ".join(lab.kernel_variants)
        raise source.error("zclab_kernel_variant", f"no variant is called {lab.kernel_variant!r}: {known}")
    if not lab.traits.one_machine and lab.limits.machine_sysctls:
        raise source.error(
            "zclab_limits.machine_sysctls",
            "only network namespaces share sysctls with their machine: declare them under sysctls",
        )
    if lab.traits.emulators and lab.virtual is None:
        raise source.error("zclab_virtual", "missing: a virtual lab declares the size of its hosts")
    if lab.traits.one_guest and lab.exact is None:
        raise source.error("zclab_exact", "missing: an exact lab declares the link of its guest")
    if lab.traits.one_guest and len(lab.hosts) != 2:
        raise source.error(
            "zclab_pair", "an exact lab has one pair, both ends in one guest: remove the others"
        )
    for host in lab.hosts:
        if lab.traits.emulators and host.nic_model is None:
            raise source.error(
                "zclab_nic_model",
                f"missing for {host.name}: a virtual host declares its NIC",
                host.name,
                host.role,
            )
    for key, host, text in addresses.problems(lab):
        raise source.error(key, text, host.name, host.role)
    _check_meaningful(source, lab)


def _check_meaningful(source: _Source, lab: Lab) -> None:
    """Refuse what nothing would obey in a lab of this kind."""
    if not lab.traits.one_guest and lab.exact is not None:
        raise source.error("zclab_exact", f"a lab of kind {lab.kind} has no exact guest: leave it out")
    if not lab.traits.one_guest and lab.expectations.baseline is not None:
        text = f"a lab of kind {lab.kind} has no clock that counts instructions: leave it out"
        raise source.error("zclab_baseline", text)
    if lab.traits.emulators:
        for host in lab.hosts:
            if host.nic_model == "veth":
                text = "a veth pair is no NIC of a virtual host: use e1000e or virtio-net"
                raise source.error("zclab_nic_model", text, host.name, host.role)
        return
    if lab.virtual is not None:
        raise source.error("zclab_virtual", f"a lab of kind {lab.kind} has no virtual hosts: leave it out")
    for host in lab.hosts:
        for field in ("nic_model", "ssh_port"):
            if getattr(host, field) is not None:
                text = f"only virtual hosts have one, {host.name} is not virtual: leave it out"
                raise source.error(_KEYS[field], text, host.name, host.role)
