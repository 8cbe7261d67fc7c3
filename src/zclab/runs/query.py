# SPDX-License-Identifier: Apache-2.0
"""Runs of every kind: found by name, the newest of some sort, all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import ConfigDict, ValidationError

from zclab.base.errors import UsageError
from zclab.base.model import first_problem
from zclab.base.progress import Progress, quiet
from zclab.runs import folder
from zclab.runs.folder import Run
from zclab.runs.manifest import BaseManifest, D, Kind, KindName, M, R

LATEST = "latest"


class Summary(BaseManifest):
    """What manifests of all kinds have in common."""

    model_config = ConfigDict(extra="ignore")


class Found(NamedTuple):
    """A run, whatever its kind."""

    directory: Path
    summary: Summary


def all_runs(
    on_unreadable: Progress, lab: str | None = None, kind: KindName | None = None
) -> Iterator[Found]:
    """Yield runs, newest first, of a lab and a kind, null for any.

    on_unreadable: gets one line for each folder that is left out because it cannot be read.
    """
    for directory in folder.directories():
        try:
            found = Found(directory, _summary(directory))
        except UsageError as error:
            on_unreadable(str(error))
            continue
        if lab in (None, found.summary.lab) and kind in (None, found.summary.kind):
            yield found


def find(name: str, on_unreadable: Progress, lab: str | None = None, kind: KindName | None = None) -> Found:
    """Return a run by its id or path, or by "latest" the newest of a lab and a kind, null for any.

    Raises:
        UsageError: there is none, it cannot be read, or is of another lab or kind.
    """
    if name == LATEST:
        for found in all_runs(on_unreadable, lab, kind):
            return found
        of = "".join(f" of {what} {value}" for what, value in (("lab", lab), ("kind", kind)) if value)
        raise UsageError(f"no run{of} yet: make one with `zclab {kind or 'run'}`")
    directory = folder.directory_of(name)
    found = Found(directory, _summary(directory))
    for what, wanted, value in (("lab", lab, found.summary.lab), ("kind", kind, found.summary.kind)):
        if wanted not in (None, value):
            raise UsageError(f"{directory.name}: is a run of {what} {value}, not of {wanted}")
    return found


def check_lab(name: str | None, declared: Iterable[str]) -> str | None:
    """Return the name of a lab that is declared or that a run names; null is none.

    Raises:
        UsageError: there is none.
    """
    if name is None:
        return None
    name = Path(name).name
    known = {*declared, *(found.summary.lab for found in all_runs(quiet))}
    if name not in known:
        raise UsageError(f"--lab {name}: no such lab, use one of {', '.join(sorted(known))}")
    return name


def latest_whole(
    kind: Kind[M, R, D], lab: str, lab_dir: str, kernel_variant: str | None, fingerprint: str
) -> D | None:
    """Return the document of the newest run of a kind that finished on a kernel of a lab; null: none did.

    lab_dir: the lab's inventory, as manifests have it: another of the same name may be of another kind.
    fingerprint: the one that the run's manifest has to have. A run whose chain is not whole is left out.
    """
    for directory, summary in all_runs(quiet, lab, kind.name):
        whole = summary.chain is not None and summary.chain.state == "whole"
        same = (summary.lab_dir, summary.kernel_variant) == (lab_dir, kernel_variant)
        if whole and same and summary.finished_at is not None:
            with suppress(UsageError):
                run = Run(directory, kind)
                if getattr(run.manifest(), "fingerprint", None) == fingerprint:
                    return run.document()
    return None


def _summary(directory: Path) -> Summary:
    data = folder.read(directory).manifest
    try:
        return Summary.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{directory}: cannot be read: manifest: {first_problem(error)}") from None
