# SPDX-License-Identifier: Apache-2.0
"""Packages of one Debian suite, found and downloaded through an apt directory of its own.

Mirrors, keys, proxies and logins are this machine's; nothing else of its apt is obeyed (pinning, hooks,
other vendors' sources), and nothing of it is changed. Signatures are always verified, also where the
machine's sources say `trusted`. Names are exact: apt takes one that it does not know for a pattern, so that
`linux-source-6.1` is linux-source-6.12 where there is no other.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zclab.base.errors import LabError, UsageError
from zclab.base.files import remove_tree, write_whole
from zclab.base.locks import locked
from zclab.base.paths import cache_dir
from zclab.base.process import CommandError, require_tools, run
from zclab.base.progress import Progress
from zclab.debian import sources
from zclab.debian.sources import HERE, Machine

#: Debian policy, section 5.6.7: a name; and a suite as in a path below dists/.
PACKAGE_NAME = r"^[a-z0-9][a-z0-9+.-]+$"
SUITE_NAME = r"^[a-z][a-z0-9-]*$"

# Debian's kernels get a security update every week or two.
_MAX_AGE_SECONDS = 7 * 86400.0
# What would switch a source's signature check off.
_UNCHECKED = re.compile(r"^(?:Trusted|Allow-\S+|Targets|Languages|Architectures|Pdiffs): .*\n", re.MULTILINE)


@dataclass(frozen=True)
class Archive:
    """One suite of Debian; `sources` is deb822 text, `etc` where the machine keeps apt's keys and logins."""

    suite: str
    sources: str
    etc: Path

    @property
    def directory(self) -> Path:
        """Return the apt directory: settings, lists, cache. It lies in zclab's cache."""
        digest = hashlib.sha256(self.sources.encode()).hexdigest()[:16]
        return cache_dir() / "apt" / f"{self.suite}-{digest}"

    def candidate(self, package: str, on_progress: Progress) -> str:
        """Return the newest version of a package.

        Raises:
            UsageError: the suite does not offer it; the text names the closest one that it offers.
            LabError: the suite's lists cannot be had, or are not signed by a key that this machine trusts.
        """
        self._refresh(on_progress)
        policy = self._run(["apt-cache", "policy", package])
        found = re.search(rf"^{re.escape(package)}:\n(?: .*\n)*?  Candidate: (\S+)$", policy, re.MULTILINE)
        if not found or found[1] == "(none)":
            raise UsageError(f"package {package}: {self.lacks(package, on_progress)}")
        return found[1]

    def lacks(self, package: str, on_progress: Progress) -> str:
        """Return, in words, that the suite does not offer a package, and what the closest one is.

        Raises LabError as `candidate` does.
        """
        self._refresh(on_progress)
        offered = self._run(["apt-cache", "pkgnames"]).split()
        closest = closest_name(package, offered)
        return f"Debian {self.suite} does not offer it" + (
            f": the closest that it offers is {closest}" if closest else ""
        )

    def download(self, package: str, version: str, into: Path, on_progress: Progress) -> Path:
        """Download a package into a directory and return the file.

        Raises:
            UsageError: the suite does not offer it.
            LabError: it, or that version, cannot be downloaded.
        """
        self.candidate(package, on_progress)  # apt-get would take an unknown name for a pattern
        on_progress(f"downloading {package} {version}")
        before = set(into.glob("*.deb"))
        try:
            self._run(["apt-get", "-q", "download", f"{package}={version}"], cwd=into)
        except CommandError as error:
            self._refresh(on_progress, max_age_seconds=0)
            raise LabError(
                f"package {package} {version}: apt-get cannot download it from Debian {self.suite} "
                f"({complaint(error)}): the newest is {self.candidate(package, on_progress)}: try again, or "
                "set another version"
            ) from error
        (file,) = set(into.glob("*.deb")) - before
        return file

    def closure(self, packages: Sequence[str], on_progress: Progress) -> dict[str, str]:
        """Return packages and all that they depend on, by name, with their versions.

        Recommended packages are not among them.

        Raises:
            UsageError: the suite does not offer one of them.
            LabError: the suite's lists cannot be had, or dependencies cannot be satisfied.
        """
        self._refresh(on_progress)
        try:
            # Nothing is installed here: what a package depends on is listed whatever this machine has.
            printed = self._run(["apt-get", "-q", "-s", "--no-install-recommends", "install", *packages])
        except CommandError as error:
            for package in packages:
                self.candidate(package, on_progress)
            raise LabError(
                f"packages {', '.join(packages)}: Debian {self.suite} does not offer what they depend on "
                f"({complaint(error)})"
            ) from error
        found = dict(sorted(re.findall(r"^Inst (\S+) \((\S+) ", printed, re.MULTILINE)))
        for package in set(packages) - set(found):
            self.candidate(package, on_progress)  # apt-get has taken an unknown name for a pattern
        return found

    def download_all(self, versions: Mapping[str, str], into: Path, on_progress: Progress) -> list[Path]:
        """Download packages, by name, into a directory and return the files.

        Raises:
            LabError: one cannot be downloaded.
        """
        on_progress(f"downloading {len(versions)} packages of Debian {self.suite}")
        into.mkdir(parents=True, exist_ok=True)
        wanted = [f"{name}={version}" for name, version in versions.items()]
        try:
            self._run(["apt-get", "-q", "download", *wanted], cwd=into)
        except CommandError as error:
            self._refresh(on_progress, max_age_seconds=0)
            raise LabError(
                f"packages of Debian {self.suite}: apt-get cannot download them ({complaint(error)}): "
                "try again"
            ) from error
        return sorted(into.glob("*.deb"))

    def _refresh(self, on_progress: Progress, max_age_seconds: float = _MAX_AGE_SECONDS) -> None:
        """Have lists that are younger than that; older ones have to do where they cannot be had anew."""
        require_tools(["apt-cache", "apt-get", "dpkg-deb"], "a Debian package")
        stamp = self.directory / "updated"
        lock = cache_dir() / "locks" / f"apt-{self.directory.name}.lock"
        if _age_seconds(stamp) < max_age_seconds:
            return
        with locked(lock, f"the package lists of Debian {self.suite}", on_progress):
            if _age_seconds(stamp) < max_age_seconds:
                return
            whole = stamp.exists()
            on_progress(f"reading the package lists of Debian {self.suite}")
            try:
                self._write_settings()
                self._run(["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"])
                write_whole(stamp, "")
            except CommandError as error:
                reason = f"the package lists of Debian {self.suite} cannot be read ({complaint(error)})"
                if not whole:
                    raise LabError(
                        f"{reason}: check this machine's apt sources, their keys and the network"
                    ) from error
                on_progress(f"{reason}: older ones are used")
            finally:
                if not stamp.exists():
                    remove_tree(self.directory)

    def _write_settings(self) -> None:
        directory = self.directory
        parts = [f"etc/{part}.d" for part in ("sources.list", "apt.conf", "preferences")]
        for part in (*parts, "lists/partial", "cache/archives/partial"):
            (directory / part).mkdir(parents=True, exist_ok=True)
        write_whole(directory / "etc/sources.list.d/debian.sources", self.sources)
        (directory / "status").touch()
        apt = self.etc / "apt"
        settings = [
            f'Dir::Etc "{directory}/etc/";',
            f'Dir::State "{directory}/";',
            f'Dir::State::status "{directory}/status";',
            f'Dir::Cache "{directory}/cache/";',
            # A source without a key of its own is checked with the machine's, and reached with its passwords.
            f'Dir::Etc::trusted "{apt}/trusted.gpg";',
            f'Dir::Etc::trustedparts "{apt}/trusted.gpg.d/";',
            f'Dir::Etc::netrc "{apt}/auth.conf";',
            f'Dir::Etc::netrcparts "{apt}/auth.conf.d/";',
            'APT::Architecture "amd64";',
            'APT::Architectures { "amd64"; };',
            'APT::Sandbox::User "root";',  # another user could not write here
            'Acquire::Languages "none";',
            *sources.transport_options(),
        ]
        write_whole(directory / "apt.conf", "\n".join(settings) + "\n")

    def _run(self, command: Sequence[str], cwd: Path | None = None) -> str:
        # This file is read first: the machine's own settings are then looked for in our directory, too.
        return run(command, cwd=cwd, environment={"APT_CONFIG": str(self.directory / "apt.conf")})


def archive(suite: str | None = None, machine: Machine = HERE) -> Archive:
    """Return a suite of Debian as this machine reaches it; None: the release that it runs.

    Raises LabError when this machine is not a Debian one, or names no Debian source.
    """
    checked = _UNCHECKED.sub("", sources.debian_sources(suite, machine))
    return Archive(suite or sources.codename(machine), checked, machine.etc)


def closest_name(name: str, offered: Sequence[str]) -> str | None:
    """Return the name that is most like one that is not offered: of its own kind if there is any."""
    stem = re.split(r"\d", name, maxsplit=1)[0]
    same_kind = [other for other in offered if stem and re.split(r"\d", other, maxsplit=1)[0] == stem]
    pool = same_kind or [other for other in offered if other[:1] == name[:1]]
    return next(iter(difflib.get_close_matches(name, pool, n=1, cutoff=0.6)), None)


def complaint(error: CommandError) -> str:
    """Return the line of what a tool printed that says why it failed."""
    lines = [line.strip() for line in error.output.splitlines() if line.strip()]
    starts = ("E:", "W: GPG error", "fatal:", "error:", "tar:", "xz:")
    complaints = [line for line in lines if line.startswith(starts)]
    signature = [line for line in complaints if "GPG error" in line or "not signed" in line]
    return (signature or complaints or lines or ["no output"])[0 if complaints else -1]


def _age_seconds(stamp: Path) -> float:
    try:
        return time.time() - stamp.stat().st_mtime
    except OSError:
        return float("inf")
