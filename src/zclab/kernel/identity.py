# SPDX-License-Identifier: Apache-2.0
"""The kernel that the hosts of a lab have to run."""

from __future__ import annotations

from zclab.base.model import Model


class Artifact(Model):
    """The kernel that every host of the lab has to run."""

    variant: str
    key: str
    release: str
    build_id: str
