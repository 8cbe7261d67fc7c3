# SPDX-License-Identifier: Apache-2.0
"""The kernel that the hosts of a lab have to run, and how documents name one."""

from __future__ import annotations

from zclab.base.model import Model


class Artifact(Model):
    """The kernel that every host of the lab has to run."""

    variant: str
    key: str
    release: str
    build_id: str


class KernelIdentity(Model):
    """A kernel as every document names it.

    kernel_variant, artifact_key: null where hosts run a kernel that the lab does not boot. kernel_release,
    kernel_build_id: null where such hosts run different ones, or it is not known.
    """

    kernel_variant: str | None
    kernel_release: str | None
    kernel_build_id: str | None
    artifact_key: str | None

    @classmethod
    def of(cls, artifact: Artifact) -> KernelIdentity:
        """Return how documents name an artifact."""
        return cls(
            kernel_variant=artifact.variant,
            kernel_release=artifact.release,
            kernel_build_id=artifact.build_id,
            artifact_key=artifact.key,
        )

    @property
    def kernel(self) -> str:
        """The kernel in words: its variant and release."""
        return f"{self.kernel_variant or 'of this machine'} ({self.kernel_release or 'release unknown'})"
