# SPDX-License-Identifier: Apache-2.0
"""The variables that a child process gets: nothing that a user has set for other work steers it.

A compiler, make, git, pip, ssh, apt, Ansible, Python and the shells read more variables than anybody can
list. So those that go on are listed in scripts/kept_variables, for scripts/bootstrap and the Makefile, too:
how the network is reached, where files may lie, the terminal, the SSH agent. The project's own, which start
with ZCLAB_, go on as well. All else is set here or by the caller.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from zclab.base.paths import cache_dir, project_root

#: Variables for a command, over those that every child gets; None takes one away.
Environment = Mapping[str, str | None]

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the programs of a distribution are: what is built comes from its compiler, not from a user's."""

BUILD: Environment = {"PATH": SYSTEM_PATH}
"""What a child gets that compiles something."""

#: Tools that speak another language, or ask questions, would not be understood.
_FIXED = {
    "LC_ALL": "C",
    "TZ": "UTC",
    "DEBIAN_FRONTEND": "noninteractive",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "PYTHONNOUSERSITE": "1",
}


#: What Python itself reads, and what changes what a program does.
_PYTHON_SETTINGS = frozenset(
    f"PYTHON{name}"
    for name in (
        *("PATH", "OPTIMIZE", "WARNINGS", "IOENCODING", "INSPECT", "DEVMODE", "DEBUG", "UTF8", "VERBOSE"),
        *("PLATLIBDIR", "CASEOK", "MALLOC", "TRACEMALLOC", "PROFILEIMPORTTIME", "BREAKPOINT", "STARTUP"),
        *("USERBASE", "PYCACHEPREFIX", "NODEBUGRANGES", "ASYNCIODEBUG", "COERCECLOCALE", "INTMAXSTRDIGITS"),
        *("DUMPREFS", "FAULTHANDLER", "EXECUTABLE", "SAFEPATH", "WARNDEFAULTENCODING"),
    )
)


@cache
def _kept() -> frozenset[str]:
    return frozenset((project_root() / "scripts" / "kept_variables").read_text(encoding="ascii").split())


def of_child(changes: Environment | None = None, *, own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables for a child process.

    changes: what this child gets otherwise; own: the variables of this process.
    """
    kept = {name: value for name, value in own.items() if name in _kept() or name.startswith("ZCLAB_")}
    if not kept.get("HOME"):
        kept["HOME"] = pwd.getpwuid(os.getuid()).pw_dir
    # Some programs would use a directory that is not there, or is another for each of them, and some not.
    if not (Path(kept.get("TMPDIR", "")).is_absolute() and Path(kept["TMPDIR"]).is_dir()):
        kept.pop("TMPDIR", None)
    own_path = [part for part in kept.get("PATH", "").split(os.pathsep) if Path(part).is_absolute()]
    kept["PATH"] = os.pathsep.join(own_path or [SYSTEM_PATH])
    merged: dict[str, str | None] = {**kept, **_FIXED, **(changes or {})}
    return {name: value for name, value in merged.items() if value is not None}


def ansible() -> Environment:
    """Return what Ansible's programs get: the project's settings, and no plugins or collections of a user."""
    own = os.environ.get("PATH", SYSTEM_PATH)
    return {
        "ANSIBLE_CONFIG": str(project_root() / "ansible.cfg"),
        "ANSIBLE_HOME": str(cache_dir() / "ansible"),
        "LC_ALL": "C.UTF-8",  # Ansible runs in no other encoding
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{own}",
    }


@contextmanager
def replaced(variables: Mapping[str, str]) -> Iterator[None]:
    """Give this process other variables within the block, for a library that hands its own on."""
    old = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(old)


def start_again_without_python_settings(name: str) -> None:
    """Start this program again if it is the one of this name, and Python was given settings by variables.

    Python has acted on them by then: a module of another project would be imported, or help texts be gone.
    """
    if Path(sys.argv[0]).name != name or not (settings := _PYTHON_SETTINGS & set(os.environ)):
        return
    kept = {variable: value for variable, value in os.environ.items() if variable not in settings}
    os.execve(sys.executable, [sys.executable, "-s", *sys.argv], kept)
