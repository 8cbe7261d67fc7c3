# SPDX-License-Identifier: Apache-2.0
"""What an inventory may say about connections: only what Ansible and zclab's own channels both obey.

Ansible connects to a host, and so do zclab and testinfra, which read the lab's ssh_config. With a setting
that only Ansible reads, playbooks would reach a host, and `zclab run` would not.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

SSH_ARGS = "ansible_ssh_common_args"
#: Names the file in a lab's state directory (base.paths.state_dir spells the same rule), for Ansible.
OWN_SSH_ARGS = (
    "-F \"{{ (inventory_dir | dirname).removesuffix('/inventory') }}"
    '/.zclab/{{ inventory_dir | basename }}/ssh_config"'
)

_OBEYED = ("ansible_host", "ansible_port", "ansible_user", SSH_ARGS)
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}")
_ADVICE = (
    (
        re.compile(r"ansible(_ssh)?_private_key_file"),
        "zclab and pytest would connect without it: make it a default key in ~/.ssh, or load it with ssh-add",
    ),
    (
        re.compile(r"(ansible|.*)_become.*"),
        "zclab and pytest do not change the user: set ansible_user to root, and leave it out",
    ),
)


class Problem(NamedTuple):
    """What is wrong with a key of a host, and what to do."""

    key: str
    text: str


def templates(key: str, value: Any) -> Iterator[str]:
    """Yield the dotted path of each text in a value that Ansible would evaluate: Jinja, or a vault's."""
    if isinstance(value, dict):
        if "__ansible_vault" in value:
            yield key
        for name, one in value.items():
            yield from templates(f"{key}.{name}", one)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from templates(f"{key}.{number}", one)
    elif isinstance(value, str) and re.search(r"\{\{|\{%|\{#", value):
        yield key


def problems(name: str, variables: dict[str, Any], *, made: bool, reached: bool = True) -> Iterator[Problem]:
    """Yield what is wrong with the `ansible_` settings of a host.

    made: zclab makes the hosts of this lab, and so knows where they answer. reached: SSH reaches them.
    """
    if _HOST_NAME.fullmatch(name) is None or name == "localhost":
        yield Problem(name, "cannot be the name of a host: use letters, digits, - and _ (not localhost)")
    for key, value in variables.items():
        if key.startswith("ansible_") and not reached:
            yield Problem(key, "SSH reaches no host of this lab: leave it out")
        elif key.startswith("ansible_"):
            yield from (Problem(key, text) for text in _of(key, value, made=made))
    if reached and SSH_ARGS not in variables:
        text = f"missing: Ansible would not use the lab's ssh_config: set it to {OWN_SSH_ARGS}"
        yield Problem(SSH_ARGS, text)


def _of(key: str, value: Any, *, made: bool) -> Iterator[str]:
    if key not in _OBEYED:
        advice = next((text for pattern, text in _ADVICE if pattern.fullmatch(key)), None)
        own = "zclab and pytest would connect without it: leave it out"
        yield f"only Ansible obeys it: {advice or own}"
    elif key == SSH_ARGS:
        if value != OWN_SSH_ARGS:
            yield (
                "has to name the lab's ssh_config and nothing else, because zclab and pytest read no other "
                f"options, such as those of a jump host: set it to {OWN_SSH_ARGS}"
            )
    elif any(templates(key, value)):
        yield "is Jinja, which zclab does not evaluate: write the value itself"
    elif key == "ansible_user":
        if not isinstance(value, str) or _USER.fullmatch(value) is None:
            yield f"{value!r} is not the name of a user"
        elif made and value != "root":
            yield "the hosts that this lab makes are reached as root: set it to root"
    elif made:
        yield "zclab itself makes the hosts of this lab, and knows where they answer: leave it out"
    elif key == "ansible_host":
        if problem := _address_problem(value):
            yield f"{value!r} {problem}"
    elif type(value) is not int or not 1 <= value <= 65535:
        yield f"{value!r} is not a port, a number from 1 to 65535"


def _address_problem(value: Any) -> str | None:
    """Return why no host can be reached by this name or address over SSH."""
    if not isinstance(value, str):
        return "is not a name or an address: put it in quotes"
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        if re.fullmatch(r"[0-9.]+", value) or _HOST_NAME.fullmatch(value) is None:
            return "is not a name or an address"
        return None
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.is_link_local):
        # ssh_config takes % for the start of one of its own tokens, and a zone is needed.
        return "is a link-local address: use a name, or an address of another scope"
    if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
        return "is not the address of a host"
    return None
