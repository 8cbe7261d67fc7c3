# SPDX-License-Identifier: Apache-2.0
"""What a lab's hosts were last brought to, and who uses them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from zclab.base.errors import LabError, UsageError
from zclab.base.locks import locked_if_free
from zclab.kernel.identity import Artifact
from zclab.kernel.spec import KernelVariant
from zclab.lab.defaults import TWO_HOSTS
from zclab.lab.model import Lab


def deployed_kernel(lab: Lab, variant: str | None = None) -> Artifact | None:
    """Return the kernel that the lab's hosts were last made to boot: a variant of it, null for its own.

    A lab that boots none, and runs this machine's, has none.

    Raises:
        LabError: the lab was never brought up, or with another kernel than its inventory names now.
    """
    wanted = variant or lab.kernel_variant
    return _recorded_kernel(lab, wanted) if wanted is not None else None


def require_hosts(lab: Lab) -> None:
    """Raise UsageError for a lab of which no host stands."""
    if lab.traits.one_guest:
        raise UsageError(
            f"{lab.name}: this needs hosts that SSH reaches, and here none stands: use --lab {TWO_HOSTS}"
        )


def running_kernel(lab: Lab) -> Artifact | None:
    """Return the kernel that the lab's hosts were last made to boot, whichever of the lab's it is.

    A lab that boots none has none.

    Raises:
        LabError: the lab was never brought up, or with a kernel that its inventory does not have now.
    """
    return _recorded_kernel(lab, None) if lab.kernel_variant is not None else None


def _recorded_kernel(lab: Lab, wanted: str | None) -> Artifact:
    """Return the kernel that the lab has recorded, if that is the wanted one, or any of the inventory's."""
    path = lab.state_dir / "kernel.json"
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        artifact = Artifact.model_validate(recorded["artifact"])
        definition = KernelVariant.model_validate(recorded["definition"])
    except FileNotFoundError:
        raise LabError(f"{lab.name}: this lab has booted no kernel yet: run `zclab up`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise LabError(f"{path}: cannot be read ({reason}): run `zclab up`") from None
    expected = wanted or artifact.variant
    if artifact.variant != expected or definition != lab.kernel_variants.get(expected):
        raise LabError(
            f"{lab.name}: its hosts were set up with another kernel than {expected!r} of the "
            f"inventory ({artifact.variant}, {artifact.release}): run `zclab up --kernel {expected}`"
        )
    return artifact


@contextmanager
def exclusive(lab: Lab) -> Iterator[None]:
    """Hold the lab for one run. The kernel drops the lock with the process, however that ends.

    Raises:
        LabError: another run holds it.
    """
    if not lab.state_dir.is_dir():
        raise LabError(f"{lab.name}: this lab is not up: run `zclab up`")
    with locked_if_free(lab.state_dir / "run.lock") as free:
        if not free:
            raise LabError(f"{lab.name}: another run is using this lab: wait for its end")
        yield
