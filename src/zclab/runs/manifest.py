# SPDX-License-Identifier: Apache-2.0
"""What every kind of run has in common: the fields of its manifest, and what makes a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar, get_args

from zclab.base.errors import UsageError
from zclab.base.exit_codes import EXIT_CODES, Verdict, worst_verdict
from zclab.base.model import Model
from zclab.kernel.identity import KernelIdentity
from zclab.runs.chain import Chain

SCHEMA_VERSION = 5
KindName = Literal["run", "crosscheck", "conformance", "selftests", "stress", "lockdep"]
KIND_NAMES: tuple[KindName, ...] = get_args(KindName)


class DeclaredToday(Model):
    """How what a run was judged by differs from the inventory of today.

    differences: "file: key value, now value". problem: why the inventory cannot be compared.
    """

    problem: str | None = None
    differences: list[str] = []


class BaseManifest(KernelIdentity):
    """What the manifest of every kind says. Times are UTC, ISO 8601; what is not known is null.

    emulated: whether an emulator executes what the hosts run. accelerator: "kvm" or "tcg", null for hosts
    that are not virtual. finished_at: null if it was interrupted. exit_code and verdict: as they were at its
    end, null for kinds that are judged again from their records. console_offsets: bytes of each host's
    console log at the start; console_reports: the kernel reports since then. versions: of the tools.
    programs: sha256 (hex) of what was built for the hosts, by its path there; of the probe, which is sent
    whenever it runs, by its name. lab_dir: the inventory, relative to the checkout where it is part of that.

    Found when a folder is read: recorded_schema, the version that wrote it (what that one did not record yet
    is null in its records), and chain, whether it is as it was written. Found when it is shown:
    declared_today, null for kinds that no inventory judges.
    """

    schema_version: Literal[5] = 5
    recorded_schema: int = SCHEMA_VERSION
    chain: Chain | None = None
    declared_today: DeclaredToday | None = None
    kind: KindName
    run_id: str
    lab: str
    emulated: bool
    accelerator: str | None
    started_at: str
    finished_at: str | None = None
    exit_code: int | None = None
    verdict: Verdict | None = None
    console_offsets: dict[str, int] = {}
    console_reports: dict[str, list[str]] = {}
    versions: dict[str, str] = {}
    programs: dict[str, str] = {}
    lab_dir: str | None = None

    @property
    def is_older(self) -> bool:
        """Whether an older version made the run, which kept no chain and less evidence."""
        return self.recorded_schema < SCHEMA_VERSION

    @property
    def finished(self) -> bool:
        """Whether it ended by itself. Version 3 did not record the end of a cross-check."""
        return self.finished_at is not None or (self.kind == "crosscheck" and self.recorded_schema == 3)

    def judged(self, *verdicts: Verdict) -> dict[str, Any]:
        """Return the worst of these verdicts and of the run's own, and its exit code, as fields.

        A run that did not finish or whose chain is broken is invalid; one of an older version is at best
        inconclusive.
        """
        found = [*verdicts]
        if not self.finished or (self.chain and self.chain.state == "broken"):
            found.append("invalid")
        if self.is_older:
            found.append("inconclusive")
        verdict = worst_verdict(found)
        return {"verdict": verdict, "exit_code": EXIT_CODES[verdict]}

    def judged_by(self, results: Iterable[str], *others: Verdict) -> dict[str, Any]:
        """Return the same for a kernel's tests: fail if one failed or it reported, invalid if none passed."""
        found = {*results}
        failed = "fail" in found or any(self.console_reports.values())
        return self.judged("fail" if failed else "pass" if "pass" in found else "invalid", *others)


M = TypeVar("M", bound=BaseManifest)
R = TypeVar("R", bound=Model)
D = TypeVar("D", bound="Judged")


class Judged(Protocol):
    """The result of a run of any kind: one JSON document with a verdict."""

    @property
    def verdict(self) -> Verdict:
        """The verdict."""

    @property
    def exit_code(self) -> int:
        """The exit code of the command that shows it."""

    def model_dump_json(self, *, indent: int) -> str:
        """Return the document as JSON."""


class Kind(NamedTuple, Generic[M, R, D]):
    """A kind of run: its manifest, its records, and the document that they give, judged.

    judged_again: the verdict is always that of the records, and the manifest has none.
    """

    name: KindName
    manifest: type[M]
    record: type[R]
    document: Callable[[M, list[R]], D]
    judged_again: bool = False


def check_kind(name: str | None) -> KindName | None:
    """Return the name of a kind; null is none.

    Raises:
        UsageError: there is no such kind.
    """
    if name is not None and name not in KIND_NAMES:
        raise UsageError(f"--kind {name}: unknown kind, use one of {', '.join(KIND_NAMES)}")
    return name
