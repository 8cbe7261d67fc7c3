# SPDX-License-Identifier: Apache-2.0
"""The probe in a guest of an exact lab: the package as a file, and the kernel that a guest really runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from zclab.backends.exact.guest import Execution
from zclab.backends.exact.steps import Step
from zclab.base.errors import InvalidError
from zclab.host import state
from zclab.host.snapshot import Snapshot
from zclab.measure.guests import Guests, run_command
from zclab.suites import probe_command


def boot(guests: Guests, label: str, seed: int, steps: Sequence[Step], cpu_seconds: float) -> Execution:
    """Boot a guest that has the probe, and have it carry out the steps.

    Raises:
        InvalidError: it runs another kernel than it was to boot.
        LabError: it did not carry out its list.
    """
    host = guests.members[1]
    look = run_command("look", state.snapshot_command(host, guests.lab), host)
    with _archive() as archive:
        done = guests.boot(
            label,
            seed,
            [*look, *steps],
            cpu_seconds=cpu_seconds,
            programs="probes",
            files={probe_command.IN_GUEST: archive},
        )
    _require_kernel(guests, state.parse(done.outputs["look"].stdout, host, guests.lab, {}))
    return done


@contextmanager
def _archive() -> Iterator[Path]:
    with TemporaryDirectory(prefix="zclab-") as directory:
        path = Path(directory, "probe.zip")
        path.write_bytes(probe_command.archive())
        yield path


def _require_kernel(guests: Guests, found: Snapshot) -> None:
    artifact = guests.artifact()
    runs = (found.kernel_release, found.kernel_build_id)
    if runs != (artifact.release, artifact.build_id):
        raise InvalidError(
            f"{guests.lab.name}: the guest runs {runs[0]} (build id {runs[1]}), not {artifact.release} "
            f"({artifact.build_id})"
        )
