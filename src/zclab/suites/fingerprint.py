# SPDX-License-Identifier: Apache-2.0
"""A hash of everything that a result depends on: whether the kernel or the suite has changed since."""

from __future__ import annotations

import hashlib

from zclab.kernel import config as configuration
from zclab.kernel import patches as patching
from zclab.kernel.spec import KernelVariant, PatchMessage


def of_kernel(variant: KernelVariant | None, *parts: bytes) -> str:
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
