# SPDX-License-Identifier: Apache-2.0
"""A small archive of Debian packages, signed with a key of its own, and a machine whose sources name it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from zclab.debian.sources import Machine


def deb(
    directory: Path, name: str, version: str, files: dict[str, bytes] | None = None, control: str = ""
) -> Path:
    """Build a package that holds these files; `control` are more lines about it."""
    tree = directory / f"{name}-tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control += f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
    (tree / "DEBIAN/control").write_text(f"{control}Maintainer: t <t@t.invalid>\nDescription: t\n")
    for path, content in (files or {}).items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    made = directory / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--build", "-Znone", tree, made], check=True, capture_output=True)
    return made


class Repository:
    """A directory with suites, each with packages; `key` is the file that its signatures are checked with."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "mirror"
        self.key = directory / "key.gpg"
        # gpg's agent listens on a socket, whose path has to be short.
        self._home = directory / "gpg"
        self._home.mkdir(mode=0o700)
        self._gpg("--passphrase", "", "--quick-generate-key", "test@t.invalid", "ed25519", "sign")
        self._gpg("--output", str(self.key), "--export")

    def _gpg(self, *arguments: str) -> None:
        command = ["gpg", "--homedir", str(self._home), "--batch", "--yes", "--pinentry-mode", "loopback"]
        subprocess.run([*command, *arguments], check=True, capture_output=True)

    def close(self) -> None:
        """End gpg's agent."""
        subprocess.run(
            ["gpgconf", "--homedir", str(self._home), "--kill", "all"], check=False, capture_output=True
        )

    def publish(self, suite: str, debs: list[Path], origin: str = "Debian", *, signed: bool = True) -> None:
        """Write a suite anew, with these packages and no others."""
        pool, dists = self.root / "pool" / suite, self.root / "dists" / suite
        (dists / "main/binary-amd64").mkdir(parents=True, exist_ok=True)
        pool.mkdir(parents=True, exist_ok=True)
        stanzas = []
        for file in debs:
            data = file.read_bytes()
            (pool / file.name).write_bytes(data)
            control = subprocess.run(
                ["dpkg-deb", "-f", file], check=True, capture_output=True, text=True
            ).stdout
            stanzas.append(
                f"{control}Filename: pool/{suite}/{file.name}\nSize: {len(data)}\n"
                f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
            )
        packages = "\n".join(stanzas).encode()
        (dists / "main/binary-amd64/Packages").write_bytes(packages)
        digest = hashlib.sha256(packages).hexdigest()
        release = (
            f"Origin: {origin}\nLabel: {origin}\nSuite: {suite}\nCodename: {suite}\n"
            "Date: Thu, 01 Jan 2026 00:00:00 UTC\nArchitectures: amd64\nComponents: main\n"
            f"SHA256:\n {digest} {len(packages)} main/binary-amd64/Packages\n"
        )
        (dists / "Release").write_text(release)
        (dists / "InRelease").unlink(missing_ok=True)
        if signed:
            self._gpg("--output", str(dists / "InRelease"), "--clearsign", str(dists / "Release"))

    def machine(self, release: str = "bookworm", options: str = "") -> Machine:
        """Return a machine of this release with one source: this archive."""
        etc, lists = self.directory / "etc", self.directory / "lists"
        for part in (etc / "apt", lists):
            part.mkdir(parents=True, exist_ok=True)
        (etc / "os-release").write_text(f'ID=debian\nVERSION_CODENAME={release}\nPRETTY_NAME="Debian"\n')
        # By file: apt would use the mirror's own lists rather than a copy of them.
        line = f"deb [signed-by={self.key}{options}] copy:{self.root} {release} main\n"
        (etc / "apt/sources.list").write_text(line)
        self.label(lists, release)
        return Machine(etc, lists)

    def label(self, lists: Path, suite: str) -> None:
        """Store a suite's Release file as apt does after an update."""
        name = f"{self.root}/dists/{suite}/InRelease".replace("_", "%5f").replace("/", "_")
        (lists / name).write_bytes((self.root / "dists" / suite / "Release").read_bytes())
