# SPDX-License-Identifier: Apache-2.0
"""From a variant to its artifact: found if it is there, built once if not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from zclab.base.errors import LabError
from zclab.base.files import full_disk_named, remove_tree, require_space, write_whole
from zclab.base.locks import locked
from zclab.base.paths import kernel_cache
from zclab.base.process import require_tools, run
from zclab.base.progress import Progress, quiet
from zclab.base.timing import Timing
from zclab.kernel import artifact as store
from zclab.kernel import compilation, drivers
from zclab.kernel import config as configuration
from zclab.kernel import patches as patching
from zclab.kernel import source as sources
from zclab.kernel.artifact import BuiltArtifact, PatchRecord, remove_abandoned_builds
from zclab.kernel.drivers import Requirement
from zclab.kernel.spec import KernelVariant

# A build directory without and with a distribution's thousands of modules.
_SPACE_BYTES = int(2.5 * 1024**3)
_SPACE_MODULES_BYTES = 10 * 1024**3
_MANY_MODULES = 500

# Objects compiled per option that is set, for a configuration that was never built here.
_OBJECTS_PER_OPTION = 1.8
# Measured with gcc 12 and an empty compiler cache: 1358 objects in 427 s on two processors.
_CPU_SECONDS_PER_OBJECT = 0.63


@dataclass(frozen=True)
class BuildResult:
    """The artifact that was asked for, whether it had to be built, and the time of what was really done."""

    artifact: BuiltArtifact
    changed: bool
    timings: tuple[Timing, ...] = ()


@dataclass(frozen=True)
class _Inputs:
    """Everything that goes into a kernel, before anything is unpacked."""

    variant: str
    source: sources.ResolvedSource
    patches: tuple[patching.PatchText, ...]
    config: configuration.ConfigInputs
    requirements: tuple[Requirement, ...]
    built_in: Mapping[str, str]
    compiler: str
    linker: str

    @property
    def records(self) -> tuple[PatchRecord, ...]:
        return tuple(PatchRecord(name=patch.name, sha256=patch.sha256) for patch in self.patches)

    def digest(self) -> str:
        """Return the hash that stands for all of it; equal inputs lead to the same artifact."""
        needs = sorted({(need.driver, need.purpose) for need in self.requirements})
        patches = [patch.sha256 for patch in self.patches]
        parts = [
            store.RECIPE,
            self.source.identity,
            patches,
            self.config.digest(),
            [*needs, *sorted(self.built_in)],
            self.compiler,
            self.linker,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass
class _Clock:
    timings: list[Timing] = field(default_factory=list)
    _last: float = field(default_factory=time.monotonic)

    def lap(self, part: str) -> None:
        now = time.monotonic()
        self.timings.append(Timing(part, round(now - self._last, 1)))
        self._last = now


def find(
    variant: str,
    spec: KernelVariant,
    requirements: Sequence[Requirement] = (),
    host_config: str | None = None,
) -> BuiltArtifact | None:
    """Return the artifact of a variant if it was built already, None if it would have to be built.

    Without requirements: whatever hosts it was built for. Builds nothing. Raises UsageError for inputs that
    do not exist, LabError when a source cannot be asked.
    """
    return _remembered(_read_inputs(variant, spec, requirements, host_config))


def build(
    variant: str,
    spec: KernelVariant,
    requirements: Sequence[Requirement] = (),
    host_config: str | None = None,
    on_progress: Progress = print,
    *,
    built_in: Mapping[str, str] = MappingProxyType({}),
) -> BuildResult:
    """Return the artifact of a variant; build it if there is none.

    `requirements` are the drivers that the hosts cannot boot without, `host_config` is their running
    configuration (for config base "host"), `on_progress` gets a line of progress every few seconds.
    `built_in` are options (CONFIG_...) that have to be y, with what needs them, in words.

    Raises UsageError (a source, patch or fragment that does not exist or does not fit), InvalidError (a
    configuration that is not what was asked for, or that the hosts could not boot), LabError (no network, no
    space, no tool, a compiler error). Nothing half-made stays.
    """
    require_tools(compilation.TOOLS, "building a kernel")
    inputs = _read_inputs(variant, spec, requirements, host_config, on_progress, built_in)
    if found := _remembered(inputs):
        _remember(inputs, found.key)
        return BuildResult(found, changed=False)
    remove_abandoned_builds()
    digest = inputs.digest()[:16]
    with locked(store.build_lock(digest), f"kernel {variant}", on_progress):
        if found := _remembered(inputs):
            return BuildResult(found, changed=False)
        directory = kernel_cache() / "build" / digest
        remove_tree(directory)
        require_space(directory.parent, _SPACE_BYTES, "building a kernel")
        directory.mkdir()
        try:
            with full_disk_named(directory):
                return _build_in(directory / "linux", inputs, on_progress)
        finally:
            remove_tree(directory)


def _read_inputs(
    variant: str,
    spec: KernelVariant,
    needs: Sequence[Requirement],
    host_config: str | None,
    on_progress: Progress = quiet,
    built_in: Mapping[str, str] = MappingProxyType({}),
) -> _Inputs:
    config = configuration.read_inputs(spec.config, host_config)
    configuration.asked(config.fragments)
    compiler, linker = compilation.toolchain()
    return _Inputs(
        variant=variant,
        source=sources.resolve(spec.source, on_progress),
        patches=patching.resolve(spec.patches),
        config=config,
        requirements=tuple(needs),
        built_in=built_in,
        compiler=compiler,
        linker=linker,
    )


def _memo(inputs: _Inputs) -> Path:
    """Return the file that remembers the artifact of these inputs: finding it anew takes a source tree."""
    return kernel_cache() / "resolved" / inputs.digest()


def _remember(inputs: _Inputs, key: str) -> None:
    """Keep the key of these inputs, for hosts like these and for who asks whether it was built at all."""
    for each in (inputs, replace(inputs, requirements=(), built_in={})):
        if not _memo(each).is_file() or _memo(each).read_text(encoding="ascii") != f"{key}\n":
            write_whole(_memo(each), key + "\n")


def _remembered(inputs: _Inputs) -> BuiltArtifact | None:
    try:
        key = _memo(inputs).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    found = store.lookup(key) if re.fullmatch(r"[0-9a-f]{64}", key) else None
    return found.model_copy(update={"variant": inputs.variant}) if found else None


def _build_in(tree: Path, inputs: _Inputs, on_progress: Progress) -> BuildResult:
    what = f"kernel {inputs.variant}"
    clock = _Clock()
    unpacked = inputs.source.directory
    fresh = not unpacked.is_dir()
    with sources.trees().using(unpacked.name):
        sources.fetch(inputs.source, on_progress)
        if fresh:
            clock.lap("kernel source")
        on_progress(f"{what}: preparing {inputs.source.identity}, {len(inputs.patches)} patches")
        # Linked, not copied. Nothing writes into these files: patch(1) replaces the ones that it changes, and
        # the build has a directory of its own.
        run(["cp", "-al", str(unpacked), str(tree)])
    patching.apply(tree, inputs.patches)
    make = compilation.make_command()
    out = tree / compilation.OUT
    text = configuration.configure(tree, out, inputs.config, make, compilation.environment())
    options = configuration.values(text)
    names = [need.driver for need in inputs.requirements]
    if names:
        drivers.check(options, drivers.options_of(tree, names), inputs.requirements, inputs.variant)
    drivers.check_built_in(options, inputs.built_in, inputs.variant)
    plain = configuration.without_noise(text)
    key = store.artifact_key(inputs.source.identity, inputs.records, plain, inputs.compiler, inputs.linker)
    clock.lap("kernel configuration")
    if sum(value == "m" for value in options.values()) > _MANY_MODULES:
        require_space(tree.parent, _SPACE_MODULES_BYTES, "building a kernel with many modules")
    changed = store.artifacts().ensure(
        key,
        lambda directory: _make_artifact(directory, tree, inputs, key, text, clock, on_progress),
        on_progress,
        is_whole=lambda directory: store.read(directory) is not None,
    )
    found = store.lookup(key)
    if found is None:
        raise LabError(f"kernel {inputs.variant}: its artifact was removed meanwhile: build it again")
    if changed:
        on_progress(f"kernel {inputs.variant}: {found.release} in {found.directory}")
    _remember(inputs, key)
    return BuildResult(found.model_copy(update={"variant": inputs.variant}), changed, tuple(clock.timings))


def _make_artifact(
    directory: Path, tree: Path, inputs: _Inputs, key: str, text: str, clock: _Clock, on_progress: Progress
) -> None:
    """Compile a configured tree and put the artifact into an empty directory."""
    out = tree / compilation.OUT
    suffix = f"-zclab-{key[:10]}"
    plain = configuration.without_noise(text)
    config_sha256 = hashlib.sha256(plain.encode()).hexdigest()
    log = kernel_cache() / "logs" / f"{key}.log"
    started = time.monotonic()
    expected = _expected_objects(config_sha256, plain)
    what = f"kernel {inputs.variant}"
    on_progress(f"{what}: {_outlook(expected, os.cpu_count() or 1)}")
    steps = compilation.Compilation(tree, suffix, log, what, expected, on_progress, inputs.patches)
    steps.compile()
    clock.lap("kernel compile")
    package = steps.package(initrd=drivers.wants_initrd(configuration.values(text)))
    clock.lap("kernel package")
    release = (out / "include/config/kernel.release").read_text(encoding="ascii").strip()
    if not release.endswith(suffix):
        raise LabError(
            f"kernel {inputs.variant}: its release is {release}, it should end in {suffix}: log: {log}"
        )
    notes = run(["readelf", "-n", str(out / "vmlinux")])
    build_id = re.search(r"Build ID: ([0-9a-f]+)", notes)
    if build_id is None:
        raise LabError(
            f"kernel {inputs.variant}: its vmlinux has no build id, so it could not be recognised: log: {log}"
        )
    shutil.copy(package, directory / package.name)
    shutil.copy(out / ".config", directory / "config")
    shutil.copy(log, directory / "build.log")
    # With its symbols: what runs in the exact lab is named by them.
    run(["objcopy", "--strip-debug", str(out / "vmlinux"), str(directory / store.VMLINUX)])
    made = BuiltArtifact(
        key=key,
        variant=inputs.variant,
        release=release,
        build_id=build_id[1],
        deb=package.name,
        deb_sha256=hashlib.sha256(package.read_bytes()).hexdigest(),
        size_bytes=package.stat().st_size,
        source=inputs.source.identity,
        patches=inputs.records,
        config_sha256=config_sha256,
        compiler=inputs.compiler,
        linker=inputs.linker,
        recipe=store.RECIPE,
        objects=steps.objects,
        build_seconds=round(time.monotonic() - started, 1),
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    store.write(directory, made)


def _outlook(objects: int, processors: int) -> str:
    """Return what a build will take, for who has to wait for it."""
    minutes = objects * _CPU_SECONDS_PER_OBJECT / processors / 60
    return (
        f"about {objects} objects to compile: about {max(1, round(minutes))} min on {processors} processors, "
        "less for what the compiler's cache has"
    )


def _expected_objects(config_sha256: str, config: str) -> int:
    """Return how many objects a configuration compiles: as many as last time, or a guess by its size."""
    for entry in store.stored():
        if entry.artifact.config_sha256 == config_sha256:
            return entry.artifact.objects
    return int(_OBJECTS_PER_OPTION * len(re.findall(r"=[ym]$", config, re.MULTILINE)))
