# SPDX-License-Identifier: Apache-2.0
"""One run of make and bindeb-pkg: what it is given, how it shows its progress, how it fails."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from zclab.base.environment import BUILD, Environment
from zclab.base.errors import InvalidError, LabError
from zclab.base.files import full_disk, write_whole
from zclab.base.paths import cache_dir
from zclab.base.process import NO_SPACE, run, stream
from zclab.base.progress import Progress
from zclab.kernel.patches import PatchText, blamed

OUT = "zclab-out"
"""The build directory, in the tree: the tree is then `..` in every command, wherever it lies."""

TOOLS = (
    *("bc", "bison", "ccache", "cpio", "dpkg-buildpackage", "fakeroot", "flex", "gcc", "kmod", "ld", "make"),
    *("objcopy", "openssl", "patch", "readelf", "rsync", "tar", "xz"),
)
"""The programs that a build calls."""

# How scripts/package/builddeb decides what the package's scripts tell a host.
_INITRD_RULE = "INITRD=$(if_enabled_echo CONFIG_BLK_DEV_INITRD Yes No)"

_REPORT_SECONDS = 5.0
_OBJECT = re.compile(r"  (?:CC|AS)(?: \[M\])? +\S")
_COMPILER_ERROR = re.compile(r"(?:\S+:\d+(?::\d+)?: (?:fatal )?error: .*)|(?:\S+:\d+: Error: .*)")
_WARNING = re.compile(r"\S+:\d+(?::\d+)?: warning: .*")
_PLACE = re.compile(r"(?:\.\./)*(?P<file>[^\s:]+):(?P<line>\d+):")
_OTHER_ERROR = re.compile(
    r".*(?:\bundefined reference to\b|\bld: (?!warning)|\berror: |^make(?:\[\d+\])?: \*\*\* )"
)

# The same inputs give the same bytes: nothing says when, where, by whom or how many times it was built.
_FIXED: dict[str, str | None] = {
    "KBUILD_BUILD_TIMESTAMP": "2020-01-01 00:00:00 UTC",
    "KBUILD_BUILD_USER": "zclab",
    "KBUILD_BUILD_HOST": "zclab",
    "KBUILD_BUILD_VERSION": "1",
    "SOURCE_DATE_EPOCH": "1577836800",
    "KDEB_PKGVERSION": "1",
    "KDEB_CHANGELOG_DIST": "unstable",
    # An emulated host unpacks gzip several times faster than xz, and the image inside is compressed anyway.
    "KDEB_COMPRESS": "gzip",
    "TZ": "UTC",
}


def environment(suffix: str = "") -> Environment:
    """Return the variables of every command of a build: fixed values, one compiler cache for all.

    `suffix` ends the kernel's release. It is not part of the configuration: each object would depend on it.
    """
    cache: dict[str, str | None] = {
        "CCACHE_DIR": str(cache_dir() / "ccache"),
        "CCACHE_NOHASHDIR": "1",
        "CCACHE_MAXSIZE": "5G",
    }
    return {**BUILD, **_FIXED, **cache, "LOCALVERSION": suffix}


def make_command() -> list[str]:
    """Return the command that runs make in a tree, with its build directory and the cached compiler."""
    return ["make", f"O={OUT}", "CC=ccache gcc", "HOSTCC=ccache gcc"]


def toolchain() -> tuple[str, str]:
    """Return the versions of the compiler and of the linker, as they say it themselves."""
    return run(["gcc", "--version"], environment=BUILD).splitlines()[0], (
        run(["ld", "--version"], environment=BUILD).splitlines()[0]
    )


class Compilation:
    """Runs the steps of one build into one log; `objects` counts what was compiled so far."""

    def __init__(
        self,
        tree: Path,
        suffix: str,
        log: Path,
        what: str,
        expected_objects: int,
        on_progress: Progress,
        patches: Sequence[PatchText] = (),
    ) -> None:
        """Take a configured tree; progress says `what` and counts against `expected_objects` (0: unknown).

        `patches` are those that it has: an error says which of them it comes from, and none may warn.
        """
        self.objects = 0
        self._patches = patches
        self._warning = ""
        self._environment = environment(suffix)
        self._tree = tree
        self._log = log
        self._what = what
        self._expected = expected_objects
        self._on_progress = on_progress
        self._error = ""
        self._compiler_error = False
        self._started = self._reported = time.monotonic()

    def compile(self) -> None:
        """Compile everything.

        Raises LabError with the first error of the compiler, InvalidError with the first warning of what a
        patch has touched; both name the patch. What the tree itself warns of is its own.
        """
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.unlink(missing_ok=True)
        self._step([*make_command(), f"-j{len(os.sched_getaffinity(0))}"])
        if self._warning:
            raise InvalidError(
                f"{self._what} builds with a warning: {self._warning}: correct the patch; log: {self._log}"
            )
        self._on_progress(f"{self._what}: {self.objects} objects compiled, {self._elapsed()}")

    def package(self, *, initrd: bool) -> Path:
        """Make the packages and return the one with the kernel; raise LabError.

        initrd: whether a host is to make an initrd when it installs the package.
        """
        self._on_progress(f"{self._what}: packaging")
        if not initrd:
            self._ask_for_no_initrd()
        self._step([*make_command(), f"-j{len(os.sched_getaffinity(0))}", "bindeb-pkg"])
        # bindeb-pkg puts its results beside the build directory.
        packages = [path for path in self._tree.glob("linux-image-*.deb") if "-dbg_" not in path.name]
        if len(packages) != 1:
            raise LabError(f"{self._what}: bindeb-pkg made {len(packages)} packages: see {self._log}")
        return packages[0]

    def _ask_for_no_initrd(self) -> None:
        """Have the package tell the host's hooks so: it asks for one whenever the kernel could load one.

        A source that decides in another way keeps it: a host then makes an initrd that nothing needs.
        """
        script = self._tree / "scripts/package/builddeb"
        if script.is_file() and _INITRD_RULE in (text := script.read_text(encoding="utf-8")):
            # Replaced, not changed: the file is shared with the tree that this one was linked from.
            write_whole(script, text.replace(_INITRD_RULE, "INITRD=No"), mode=0o755)

    def _step(self, command: Sequence[str]) -> None:
        self._error, self._compiler_error, full = "", False, False

        def on_line(line: str) -> None:
            nonlocal full
            full = full or NO_SPACE in line
            self._look_for_error(line)
            self._count(line)

        status = stream(command, on_line, cwd=self._tree, environment=self._environment, log=self._log)
        if status == 0:
            return
        if full:
            raise full_disk(self._tree.parent)
        error = self._error + self._from(self._error) or f"make failed with status {status}"
        raise LabError(
            f"{self._what} does not build: {error}: correct the patch or the config; log: {self._log}"
        )

    def _from(self, line: str) -> str:
        """Return which patch an error or a warning comes from, in words; empty if from none."""
        place = _PLACE.match(line)
        patch = blamed(self._patches, place["file"], int(place["line"])) if place else None
        return f" ({patch})" if patch else ""

    def _look_for_error(self, line: str) -> None:
        if not self._warning and _WARNING.match(line) and (patch := self._from(line)):
            self._warning = line.strip() + patch
        if self._compiler_error:
            return
        if _COMPILER_ERROR.match(line):
            self._error, self._compiler_error = line.strip(), True
        elif not self._error and _OTHER_ERROR.match(line):
            self._error = line.strip()

    def _count(self, line: str) -> None:
        if not _OBJECT.match(line):
            return
        self.objects += 1
        now = time.monotonic()
        if now - self._reported < _REPORT_SECONDS:
            return
        self._reported = now
        total = done = ""
        if self._expected:
            share = min(99, 100 * self.objects // self._expected)
            total = f" of about {max(self._expected, self.objects)}"
            done = f" ({share} %)"
        self._on_progress(f"{self._what}: {self.objects}{total} objects compiled{done}, {self._elapsed()}")

    def _elapsed(self) -> str:
        seconds = int(time.monotonic() - self._started)
        return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"
