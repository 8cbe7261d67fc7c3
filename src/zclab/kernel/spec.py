# SPDX-License-Identifier: Apache-2.0
"""What a lab may ask of a kernel: the input models that inventories are checked against."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from zclab.base.model import Model, first_problem
from zclab.debian.archive import SUITE_NAME


class DebianSource(Model):
    """A source package of a Debian release, such as linux-source-6.1 of bookworm.

    suite: a release with its security updates, or one suite alone (sid, trixie-backports); null: the release
    that this machine runs. version: null for the newest.
    """

    kind: Literal["debian"]
    package: str = Field(pattern=r"^linux-source-[a-z0-9.+-]+$")
    suite: str | None = Field(default=None, pattern=SUITE_NAME)
    version: str | None = Field(default=None, pattern=r"^[0-9][A-Za-z0-9.+:~-]*$")


class GitSource(Model):
    """A ref (branch, tag or full commit id) of a git repository."""

    kind: Literal["git"]
    url: str = Field(min_length=1, pattern=r"^[^-]")
    ref: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][^\s:?*\[\\^~]*$")


class TarballSource(Model):
    """A source tarball, by path or by URL, that must have this sha256."""

    kind: Literal["tarball"]
    path: str | None = None
    url: str | None = Field(default=None, pattern=r"^(https?|file)://")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _one_place(self) -> TarballSource:
        if (self.path is None) == (self.url is None):
            raise ValueError("a tarball needs exactly one of path and url")
        return self


Source = Annotated[DebianSource | GitSource | TarballSource, Field(discriminator="kind")]


class PatchFile(Model):
    """A patch, a glob of patches or a directory of them; relative paths start at kernel/patches."""

    file: str = Field(min_length=1)


class PatchMbox(Model):
    """A mailbox with a patch series, in its order; relative paths start at kernel/patches."""

    mbox: str = Field(min_length=1)


class PatchMessage(Model):
    """A series on a mailing list; `archive` is a local mailbox or maildir to look in instead of the net."""

    message_id: str = Field(pattern=r"^[^\s<>-][^\s<>]*$")
    archive: str | None = None


Patch = PatchFile | PatchMbox | PatchMessage


class HostConfigBase(Model):
    """A configuration file to start from; relative paths start at kernel/configs."""

    file: str = Field(min_length=1)


class KernelConfig(Model):
    """Where a configuration starts and the fragments that are laid over it, in order.

    A fragment is a name (`network` is kernel/configs/network.config) or a path.
    """

    base: Literal["tinyconfig", "defconfig", "host"] | HostConfigBase = "tinyconfig"
    fragments: tuple[str, ...] = ()

    @field_validator("fragments")
    @classmethod
    def _no_fragment_twice(cls, fragments: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in fragments if fragments.count(name) > 1}):
            raise ValueError(f"fragment named twice: {', '.join(twice)}")
        return fragments


class KernelVariant(Model):
    """A named kernel of a lab: source, patches in order, configuration.

    memory_mib: what a virtual host that runs it needs, null: as much as the lab's others.
    lock_report: the locks that lockdep has to report as taken in both orders; none: it has to report nothing.
    """

    source: Source
    patches: tuple[Patch, ...] = ()
    config: KernelConfig = KernelConfig()
    memory_mib: int | None = Field(default=None, ge=192)
    lock_report: tuple[str, ...] = ()


def check_variant_name(name: str) -> str:
    """Return a variant's name, or raise ValueError: it becomes part of file names and log lines."""
    if (
        not name
        or PurePath(name).name != name
        or name.startswith((".", "-"))
        or any(c.isspace() for c in name)
    ):
        raise ValueError(f"{name!r} cannot name a kernel variant: use letters, digits, dot, dash, underscore")
    return name


def problem_of(name: str, error: ValueError) -> str:
    """Return what is wrong with the declaration of a variant, in one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    return f"kernel variant {name}: {first_problem(error)}: correct it in the lab's inventory"
