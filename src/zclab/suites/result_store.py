# SPDX-License-Identifier: Apache-2.0
"""Results that belong to a kernel, kept in the state of the lab that boots it: one of a kind a kernel."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from zclab.base.files import write_whole
from zclab.base.model import Model
from zclab.kernel import config as configuration
from zclab.kernel import patches as patching
from zclab.kernel.spec import KernelVariant, PatchMessage
from zclab.lab.model import Lab

_M = TypeVar("_M", bound=Model)


def made_of(variant: KernelVariant | None, *parts: bytes) -> str:
    """Return a hash of these parts and, where the lab builds the kernel, of what that is made of.

    Raises:
        UsageError: a patch or fragment that the variant names is not there.
    """
    everything = list(parts)
    if variant is not None:
        # A series on a mailing list stays what it is; a host's own configuration is not the project's.
        local = [patch for patch in variant.patches if not isinstance(patch, PatchMessage)]
        everything += [variant.model_dump_json().encode(), *(text.diff for text in patching.resolve(local))]
        everything.append(configuration.read_inputs(variant.config, "host").digest().encode())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in everything)).hexdigest()


def keep(lab: Lab, kind: str, kernel: str, document: Model) -> Path:
    """Write a result where `kept` finds it, in place of an earlier one of the same kernel."""
    path = _path(lab, kind, kernel)
    path.parent.mkdir(exist_ok=True)
    write_whole(path, document.model_dump_json(indent=2) + "\n")
    return path


def kept(lab: Lab, kind: str, kernel: str, model: type[_M]) -> _M | None:
    """Return the kept result of a kernel; None if there is none, or one of another form."""
    try:
        return model.model_validate_json(_path(lab, kind, kernel).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None


def _path(lab: Lab, kind: str, kernel: str) -> Path:
    return lab.state_dir / kind / f"{kernel}.json"
