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
    return path.resolve()


def state_dir(lab: Path) -> Path:
    """Return the directory for the state of a lab.

    group_vars spell the same rule in Jinja for the SSH options: {{ inventory_dir }}/../../.zclab/<name>.
    """
    return lab.resolve().parents[1] / ".zclab" / lab.resolve().name


def kernel_cache() -> Path:
    """Return the directory under the cache for everything about kernels."""
    return cache_dir() / "kernel"
