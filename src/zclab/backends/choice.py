# SPDX-License-Identifier: Apache-2.0
"""Which backend a lab has: the one place that asks for its kind."""

from __future__ import annotations

from zclab.backends.backend import Backend
from zclab.lab.model import Lab


def backend_of(lab: Lab) -> Backend:
    """Return the backend of a lab; it is imported here, because no command needs more than one."""
    match lab.kind:
        case "virtual":
            from zclab.backends.virtual.backend import VirtualHosts

            return VirtualHosts(lab)
        case "namespaces":
            from zclab.backends.namespaces.backend import Namespaces

            return Namespaces(lab)
        case "hardware":
            from zclab.backends.hardware.backend import Hardware

            return Hardware(lab)
        case "exact":
            from zclab.backends.exact.backend import ExactGuest

            return ExactGuest(lab)
