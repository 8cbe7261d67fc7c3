# SPDX-License-Identifier: Apache-2.0
"""Packages of a suite: exact names, verified signatures, and nothing of the machine's apt touched."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.apt_repository import Repository, deb

from zclab.backends.virtual import image
from zclab.base.errors import LabError, UsageError
from zclab.debian.archive import Archive, archive
from zclab.debian.sources import Machine

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def repository() -> Iterator[Repository]:
    with tempfile.TemporaryDirectory(prefix="zc") as directory:
        made = Repository(Path(directory))
        packages = [
            deb(made.directory, "linux-source-6.1", "6.1.9-1"),
            deb(made.directory, "iperf3", "3.12-1"),
        ]
        made.publish("bookworm", packages)
        made.publish("trixie", [deb(made.directory, "linux-source-6.12", "6.12.5-1")])
        yield made
        made.close()


def test_a_suite_is_read_with_the_mirror_of_this_machine(repository: Repository, tmp_path: Path) -> None:
    here = repository.machine("trixie")
    lines: list[str] = []
    old = archive("bookworm", here)
    assert old.candidate("linux-source-6.1", lines.append) == "6.1.9-1"
    assert lines == ["reading the package lists of Debian bookworm"]
    assert archive(None, here).candidate("linux-source-6.12", lines.append) == "6.12.5-1"
    file = old.download("linux-source-6.1", "6.1.9-1", tmp_path, lines.append)
    assert file == tmp_path / "linux-source-6.1_6.1.9-1_all.deb"
    assert lines[-1] == "downloading linux-source-6.1 6.1.9-1"


@pytest.mark.parametrize(
    ("suite", "name", "closest"),
    [
        ("trixie", "linux-source-6.1", ": the closest that it offers is linux-source-6.12"),
        ("bookworm", "linux-source-6.12", ": the closest that it offers is linux-source-6.1"),
        ("bookworm", "iperf", ": the closest that it offers is iperf3"),
        ("bookworm", "linux-source-6.", ": the closest that it offers is linux-source-6.1"),
        ("bookworm", "?exact-name(iperf3)", ""),
        ("bookworm", "iperf.", ": the closest that it offers is iperf3"),
        ("bookworm", "qemu-system-x86", ""),
    ],
)
def test_no_name_is_taken_for_a_pattern(
    repository: Repository, tmp_path: Path, suite: str, name: str, closest: str
) -> None:
    offered = archive(suite, repository.machine())
    for ask in (
        lambda: offered.candidate(name, print),
        lambda: offered.download(name, "6.12.5-1", tmp_path, print),
    ):
        with pytest.raises(UsageError) as error:
            ask()
        assert str(error.value) == f"package {name}: Debian {suite} does not offer it{closest}"
    assert not list(tmp_path.glob("*.deb"))


def test_a_version_that_is_gone_names_the_newest(repository: Repository, tmp_path: Path) -> None:
    offered = archive("bookworm", repository.machine())
    assert offered.candidate("iperf3", print) == "3.12-1"
    repository.publish("bookworm", [deb(tmp_path, "iperf3", "3.13-1")])
    next((repository.root / "pool/bookworm").glob("iperf3_3.12-1*")).unlink()
    with pytest.raises(LabError, match=r"iperf3 3.12-1: .* from Debian bookworm .*the newest is 3.13-1"):
        offered.download("iperf3", "3.12-1", tmp_path, print)


def unsigned(repository: Repository) -> None:
    repository.publish("bookworm", [deb(repository.directory, "iperf3-x", "1")], signed=False)


def changed_release(repository: Repository) -> None:
    path = repository.root / "dists/bookworm/InRelease"
    path.write_text(path.read_text().replace("Label: Debian", "Label: debian"))


def changed_list(repository: Repository) -> None:
    path = repository.root / "dists/bookworm/main/binary-amd64/Packages"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


def other_key(repository: Repository) -> None:
    (repository.directory / "2").mkdir()
    other = Repository(repository.directory / "2")
    other.close()
    repository.key.write_bytes(other.key.read_bytes())


@pytest.mark.parametrize("damage", [unsigned, changed_release, changed_list, other_key])
@pytest.mark.parametrize("options", ["", " trusted=yes allow-insecure=yes"])
def test_what_is_not_signed_by_the_key_is_refused(
    repository: Repository, damage: Callable[[Repository], None], options: str
) -> None:
    damage(repository)
    offered = archive("bookworm", repository.machine(options=options))
    with pytest.raises(LabError, match=r"^the package lists of Debian bookworm cannot be read \(.*\): check"):
        offered.candidate("iperf3", print)
    assert not offered.directory.exists()


def test_a_changed_package_is_refused(repository: Repository, tmp_path: Path) -> None:
    offered = archive("bookworm", repository.machine())
    offered.candidate("iperf3", print)
    (path,) = (repository.root / "pool/bookworm").glob("iperf3_*")
    path.write_bytes(path.read_bytes().replace(b"2.0", b"2.1", 1))
    with pytest.raises(LabError, match="apt-get cannot download it"):
        offered.download("iperf3", "3.12-1", tmp_path, print)


def test_old_lists_are_read_anew_and_do_where_that_fails(repository: Repository, tmp_path: Path) -> None:
    offered = archive("bookworm", repository.machine())
    lines: list[str] = []
    offered.candidate("iperf3", lines.append)
    repository.publish("bookworm", [deb(tmp_path, "iperf3", "3.13-1")])
    assert offered.candidate("iperf3", lines.append) == "3.12-1"
    os.utime(offered.directory / "updated", (1, 1))
    assert offered.candidate("iperf3", lines.append) == "3.13-1"
    os.utime(offered.directory / "updated", (1, 1))
    changed_release(repository)
    assert offered.candidate("iperf3", lines.append) == "3.13-1"
    assert "older ones are used" in lines[-1]


def test_the_machines_own_apt_settings_do_not_count(repository: Repository, tmp_path: Path) -> None:
    """Pinning, hooks and another vendor's sources of this machine decide nothing."""
    here = repository.machine()
    witness = tmp_path / "witness"
    for part in ("preferences.d", "apt.conf.d"):
        (here.etc / "apt" / part).mkdir()
    (here.etc / "apt/preferences.d/no").write_text("Package: *\nPin: release *\nPin-Priority: -1\n")
    (here.etc / "apt/apt.conf.d/hook").write_text(f'APT::Update::Post-Invoke {{ "touch {witness}"; }};')
    offered = archive("bookworm", here)
    assert offered.candidate("iperf3", print) == "3.12-1"
    assert not witness.exists()
    dump = offered._run(["apt-config", "dump"])
    for name in ("etc", "state", "cache"):
        assert f'Dir::{name.title()} "{offered.directory}' in dump
    machine_own = [line for line in dump.splitlines() if '"/var/lib' in line or '"/etc' in line]
    assert machine_own == []


def test_an_image_names_the_package_that_its_release_lacks(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    said = {
        "E: Unable to locate package iperf4": "iperf4",
        "dpkg-query: package 'iperf2' is not installed and no information is available": "iperf2",
        "E: Package 'iperf9' has no installation candidate": "iperf9",
    }
    here: Machine = repository.machine()

    def offered(suite: str) -> Archive:
        return archive(suite, here)

    monkeypatch.setattr(image, "archive", offered)
    monkeypatch.setattr(image, "privately", lambda command: command)
    monkeypatch.setattr(image, "NEEDED_MIB", 1)
    for line, name in said.items():
        script = f'echo "{line}"; exit 1'
        monkeypatch.setattr(image, "mmdebstrap_command", lambda *_, _s=script, **__: ["sh", "-c", _s])
        with pytest.raises(LabError) as error:
            image.ensure(3072, "bookworm")
        lacks = "Debian bookworm does not offer it: the closest that it offers is iperf3"
        assert str(error.value) == f"base image: package {name}: {lacks}"


def test_packages_come_with_all_that_they_depend_on(repository: Repository, tmp_path: Path) -> None:
    tool = deb(tmp_path, "tool", "1-1", control="Depends: library\nRecommends: manual\n")
    others = [deb(tmp_path, name, "2-1") for name in ("library", "manual", "unrelated")]
    repository.publish("bookworm", [tool, *others])
    offered = archive("bookworm", repository.machine())
    versions = offered.closure(["tool"], print)
    assert versions == {"library": "2-1", "tool": "1-1"}
    files = offered.download_all(versions, tmp_path / "into", print)
    assert [file.name for file in files] == ["library_2-1_all.deb", "tool_1-1_all.deb"]
    with pytest.raises(LabError, match="packages of Debian bookworm: apt-get cannot download them"):
        offered.download_all({"tool": "1-2"}, tmp_path / "none", print)
    with pytest.raises(UsageError, match=r"package tools: .* closest that it offers is tool"):
        offered.closure(["tools"], print)


def test_a_dependency_that_is_not_offered_is_named(repository: Repository, tmp_path: Path) -> None:
    repository.publish("bookworm", [deb(tmp_path, "tool", "1-1", control="Depends: library\n")])
    offered = archive("bookworm", repository.machine())
    with pytest.raises(LabError, match=r"packages tool: .* does not offer what they depend on"):
        offered.closure(["tool"], print)
