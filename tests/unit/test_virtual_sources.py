# SPDX-License-Identifier: Apache-2.0
"""Which of a machine's apt sources are Debian's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from zclab.backends.virtual.apt_sources import codename, debian_sources
from zclab.base.errors import LabError

OS_RELEASE = 'ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian 12"\n'
DEB822 = """\
# the archive
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security/
Suites: bookworm-security
Components: main
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text(OS_RELEASE)
    return tmp_path


def put(etc: Path, name: str, text: str) -> None:
    (etc / "apt" / name).write_text(text)


def test_deb822_keeps_main_of_this_release(etc: Path) -> None:
    put(etc, "sources.list.d/debian.sources", DEB822)
    text = debian_sources(etc)
    assert "Suites: bookworm bookworm-updates\n" in text
    assert "Suites: bookworm-security\n" in text
    assert "backports" not in text and "contrib" not in text and "deb-src" not in text
    assert text.count("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg") == 1
    assert "#" not in text


def test_one_line_format_and_its_options(etc: Path) -> None:
    put(
        etc,
        "sources.list",
        "deb [arch=amd64,i386 trusted=yes] http://m.example/debian bookworm main contrib # a comment\n"
        "deb-src http://m.example/debian bookworm main\n# deb http://old.example/debian bullseye main\n",
    )
    assert debian_sources(etc) == (
        "Types: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\n"
        "Architectures: amd64 i386\nTrusted: yes\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        "deb http://vendor.example/apt bookworm main",
        "deb [signed-by=/etc/apt/keyrings/vendor.gpg] http://vendor.example/stable/debian bookworm main",
        "deb http://vendor.example/debian bookworm stable",
        "deb http://vendor.example/debian bookworm-pgdg main",
        "deb cdrom:[Debian]/debian bookworm main",
        "deb http://m.example/debian trixie main",
    ],
)
def test_other_vendors_and_releases_are_left_out(etc: Path, line: str) -> None:
    put(etc, "sources.list.d/vendor.list", line + "\n")
    with pytest.raises(LabError, match="no Debian source for bookworm main"):
        debian_sources(etc)
    put(etc, "sources.list.d/debian.sources", DEB822)
    assert "vendor" not in debian_sources(etc) and "cdrom" not in debian_sources(etc)


def test_disabled_and_unknown_files_are_left_out(etc: Path) -> None:
    put(etc, "sources.list.d/a.sources", DEB822.replace("Types: deb\n", "Enabled: no\nTypes: deb\n"))
    put(etc, "sources.list.d/b.sources.bak", DEB822.replace("mirror", "backup"))
    text = debian_sources(etc)
    assert "security" not in text and "backup" not in text


def test_key_in_the_stanza_survives(etc: Path) -> None:
    key = " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n debian-archive\n -----END PGP PUBLIC KEY BLOCK-----\n"
    stanza = (
        f"Types: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n{key}"
    )
    put(etc, "sources.list.d/debian.sources", stanza)
    assert key in debian_sources(etc)


def test_stable_is_this_release(etc: Path) -> None:
    put(etc, "sources.list", "deb http://m.example/debian stable main\n")
    assert "Suites: bookworm\n" in debian_sources(etc)


@pytest.mark.parametrize("text", ['ID=ubuntu\nVERSION_CODENAME=noble\nPRETTY_NAME="Ubuntu 24"\n', ""])
def test_another_system_is_one_clear_line(etc: Path, text: str) -> None:
    (etc / "os-release").write_text(text)
    with pytest.raises(LabError, match=r"^this machine runs (Ubuntu 24|an unknown system): .*Debian"):
        codename(etc)


def test_this_machine() -> None:
    assert f"Suites: {codename()}" in debian_sources()
