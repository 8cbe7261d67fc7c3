# SPDX-License-Identifier: Apache-2.0
"""The kernels of a lab: source and patches of each, and its artifact in the cache."""

from __future__ import annotations

from rich.console import Console

from zclab.base.errors import LabError, ZclabError
from zclab.base.model import Model
from zclab.deploy import state as deploy_state
from zclab.kernel import build
from zclab.kernel.artifact import artifacts
from zclab.kernel.spec import DebianSource, GitSource, KernelVariant, Source
from zclab.lab.model import Lab
from zclab.report.terminal import new_table


class KernelEntry(Model):
    """One kernel of a lab.

    source, patches, base and fragments are as declared; key to built_at are null if it is not built. Sizes
    are in bytes (disk_bytes includes configuration and log), build_seconds is the time of its compilation.
    default: the lab boots it; booted: the lab's hosts booted it last. problem: the reason if it is unknown
    whether it is built.
    """

    variant: str
    source: str
    patches: list[str]
    base: str
    fragments: list[str]
    memory_mib: int | None
    default: bool
    booted: bool
    key: str | None = None
    release: str | None = None
    resolved_source: str | None = None
    package_bytes: int | None = None
    disk_bytes: int | None = None
    build_seconds: float | None = None
    built_at: str | None = None
    problem: str | None = None


def entries(lab: Lab) -> list[KernelEntry]:
    """Return the kernels of a lab. Builds and fetches nothing."""
    try:
        booted = deploy_state.running_kernel(lab)
    except LabError:
        booted = None
    running = booted.variant if booted is not None else None
    return [
        _entry(name, spec, default=name == lab.kernel_variant, booted=name == running)
        for name, spec in lab.kernel_variants.items()
    ]


def show(console: Console, lab: Lab, found: list[KernelEntry]) -> None:
    """Print the kernels of a lab as a table."""
    headings = ("variant", "source", "patches", "configuration", "built", "package", "release")
    table = new_table(f"kernels of lab {lab.name}", headings, fold=True)
    for one in found:
        marks = [word for word, true in (("default", one.default), ("booted", one.booted)) if true]
        table.add_row(
            one.variant + (f" ({', '.join(marks)})" if marks else ""),
            one.source,
            "\n".join(one.patches) or "-",
            " ".join([one.base, *one.fragments]),
            one.built_at or (f"unknown: {one.problem}" if one.problem else "not built"),
            f"{one.package_bytes / 2**20:.1f} MiB" if one.package_bytes is not None else "-",
            one.release or "-",
        )
    console.print(table)


def _entry(name: str, spec: KernelVariant, *, default: bool, booted: bool) -> KernelEntry:
    base = spec.config.base
    entry = KernelEntry(
        variant=name,
        source=_in_words(spec.source),
        patches=[str(next(iter(patch.model_dump(exclude_none=True).values()))) for patch in spec.patches],
        base=base if isinstance(base, str) else base.file,
        fragments=list(spec.config.fragments),
        memory_mib=spec.memory_mib,
        default=default,
        booted=booted,
    )
    try:
        made = build.find(name, spec)
    except ZclabError as error:
        return entry.model_copy(update={"problem": str(error)})
    if made is None:
        return entry
    directory = artifacts().path(made.key)
    return entry.model_copy(
        update={
            "key": made.key,
            "release": made.release,
            "resolved_source": made.source,
            "package_bytes": made.size_bytes,
            "disk_bytes": sum(file.stat().st_size for file in directory.iterdir()),
            "build_seconds": made.build_seconds,
            "built_at": made.built_at,
        }
    )


def _in_words(source: Source) -> str:
    if isinstance(source, DebianSource):
        of_suite = f" of {source.suite}" if source.suite else ""
        return f"{source.package}{of_suite} {source.version or '(newest)'}"
    if isinstance(source, GitSource):
        return f"{source.url} {source.ref}"
    return f"{source.path or source.url}"
