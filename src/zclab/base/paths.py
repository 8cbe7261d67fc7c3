# SPDX-License-Identifier: Apache-2.0
"""Where zclab keeps things. Nothing else in the package builds these paths.

The cache holds what is costly to make and safe to share between checkouts (images, sources, kernel
artifacts). The state of a lab (its disks, keys, locks) lies beside the inventory that declares it.
"""

from __future__ import annotations

import os
from pathlib import Path


def project_root() -> Path:
    """Return the checkout: the directory with ansible.cfg, playbooks/ and roles/."""
    return Path(__file__).resolve().parents[3]


def cache_dir() -> Path:
    """Return the cache: $ZCLAB_CACHE, else zclab under $XDG_CACHE_HOME, else ~/.cache/zclab."""
    if chosen := os.environ.get("ZCLAB_CACHE"):
        return Path(chosen).resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().resolve() / "zclab"


def runs_dir() -> Path:
    """Return the directory that holds one folder per run."""
    return project_root() / "runs"


def lab_dir(name_or_path: str | Path) -> Path:
    """Return the inventory directory of a lab given as a name under inventory/ or as a directory."""
    path = Path(name_or_path)
    named = project_root() / "inventory" / path
    if len(path.parts) == 1 and named.is_dir():
        return named
    # As Ansible does: without what symbolic links stand for.
    return Path(os.path.abspath(path))  # noqa: PTH100


def from_checkout(path: Path) -> str:
    """Return a path as records have it: relative to the checkout where it is part of that."""
    inside = path.is_relative_to(project_root())
    return str(path.relative_to(project_root()) if inside else path)


def state_dir(lab: Path) -> Path:
    """Return the directory for the state of a lab: .zclab/<name> beside its directory.

    Labs that lie in a directory called inventory have it beside that. zclab.lab.connection spells the same
    rule in Jinja.
    """
    parent = lab.parent
    return (parent.parent if parent.name == "inventory" else parent) / ".zclab" / lab.name


def kernel_cache() -> Path:
    """Return the directory under the cache for everything about kernels."""
    return cache_dir() / "kernel"
