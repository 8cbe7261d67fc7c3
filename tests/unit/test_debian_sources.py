# SPDX-License-Identifier: Apache-2.0
"""Which of a machine's apt sources are Debian's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from zclab.base.errors import LabError
from zclab.debian.sources import KEYRING, Machine, codename, debian_sources

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


def machine(etc: Path) -> Machine:
    return Machine(etc, etc / "lists")


def put(etc: Path, name: str, text: str) -> None:
    (etc / "apt" / name).write_text(text)


def test_deb822_keeps_main_of_this_release(etc: Path) -> None:
    put(etc, "sources.list.d/debian.sources", DEB822)
    text = debian_sources(machine=machine(etc))
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
    assert debian_sources(machine=machine(etc)) == (
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
        debian_sources(machine=machine(etc))
    put(etc, "sources.list.d/debian.sources", DEB822)
    assert "vendor" not in debian_sources(machine=machine(etc)) and "cdrom" not in debian_sources(
        machine=machine(etc)
    )


def test_disabled_and_unknown_files_are_left_out(etc: Path) -> None:
    put(etc, "sources.list.d/a.sources", DEB822.replace("Types: deb\n", "Enabled: no\nTypes: deb\n"))
    put(etc, "sources.list.d/b.sources.bak", DEB822.replace("mirror", "backup"))
    text = debian_sources(machine=machine(etc))
    assert "security" not in text and "backup" not in text


def test_key_in_the_stanza_survives(etc: Path) -> None:
    key = " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n debian-archive\n -----END PGP PUBLIC KEY BLOCK-----\n"
    stanza = (
        f"Types: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n{key}"
    )
    put(etc, "sources.list.d/debian.sources", stanza)
    assert key in debian_sources(machine=machine(etc))


def test_stable_is_this_release(etc: Path) -> None:
    put(etc, "sources.list", "deb http://m.example/debian stable main\n")
    assert "Suites: bookworm\n" in debian_sources(machine=machine(etc))


@pytest.mark.parametrize("text", ['ID=ubuntu\nVERSION_CODENAME=noble\nPRETTY_NAME="Ubuntu 24"\n', ""])
def test_another_system_is_one_clear_line(etc: Path, text: str) -> None:
    (etc / "os-release").write_text(text)
    with pytest.raises(LabError, match=r"^this machine runs (Ubuntu 24|an unknown system): .*Debian"):
        codename(machine(etc))


COMPANY = "https://user:secret@apt_1.corp.example:8443/mirror/bookworm"
#: How a company's mirror may name the key that it signs with.
KEYS = {
    "a file": "Signed-By: /etc/apt/keyrings/corp.gpg\n",
    "inline": "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    " .\n m\n -----END PGP PUBLIC KEY BLOCK-----\n",
    "a fingerprint": "Signed-By: 0123456789ABCDEF0123456789ABCDEF01234567\n",
    "none": "",
}


def label(etc: Path, name: str, **fields: str) -> None:
    """Store a Release file as `apt-get update` does."""
    (etc / "lists").mkdir(exist_ok=True)
    text = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n"
    text += "".join(f"{key}: {value}\n" for key, value in fields.items())
    (etc / "lists" / name).write_text(text)


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("kind", ["InRelease", "Release"])
def test_the_release_file_says_that_a_company_mirror_is_debian(etc: Path, key: str, kind: str) -> None:
    stanza = f"Types: deb\nURIs: {COMPANY}/\nSuites: bookworm\nComponents: main\n{key}"
    put(etc, "sources.list.d/corp.sources", stanza)
    with pytest.raises(LabError, match=r"no Debian source for bookworm main \(https:.*(key|path)") as error:
        debian_sources(machine=machine(etc))
    assert "secret" not in str(error.value)
    stored = f"apt%5f1.corp.example:8443_mirror_bookworm_dists_bookworm_{kind}"
    label(etc, stored, Origin="Debian", Label="Debian", Suite="oldstable", Codename="bookworm")
    assert debian_sources(machine=machine(etc)) == stanza
    other = debian_sources("trixie", machine(etc))
    assert "Suites: trixie\n" in other and key in other, "the mirror's own key signs its other releases, too"


def test_the_release_file_says_that_a_source_is_not_debian(etc: Path) -> None:
    put(etc, "sources.list", "deb http://vendor.example/debian bookworm main\n")
    assert "vendor" in debian_sources(machine=machine(etc)), "nothing is known of it yet"
    label(etc, "vendor.example_debian_dists_bookworm_InRelease", Origin="Vendor", Codename="bookworm")
    with pytest.raises(
        LabError, match=r"\(http://vendor.example/debian is not Debian's: .* Origin 'Vendor'\)"
    ):
        debian_sources(machine=machine(etc))


@pytest.mark.parametrize(
    ("suite", "code", "is_ours"),
    [
        ("stable", "bookworm", True),
        ("stable", "trixie", False),  # Debian went on, this machine did not
        ("oldstable", "bookworm", True),
        ("stable-security", "bookworm-security", True),
        ("bookworm", "bookworm", True),
        ("bookworm-backports", "bookworm-backports", False),
    ],
)
def test_the_release_file_says_of_which_release_a_suite_is(
    etc: Path, suite: str, code: str, is_ours: bool
) -> None:
    put(etc, "sources.list.d/debian.sources", DEB822)
    put(etc, "sources.list", f"deb http://m.example/debian {suite} main\n")
    label(etc, f"m.example_debian_dists_{suite}_InRelease", Origin="Debian", Codename=code)
    assert ("m.example" in debian_sources(machine=machine(etc))) == is_ours


@pytest.mark.parametrize(
    ("suite", "suites"),
    [
        ("trixie", ["trixie trixie-updates", "trixie-security"]),
        ("sid", ["sid"]),
        ("trixie-backports", ["trixie-backports"]),
        ("bookworm", ["bookworm bookworm-updates", "bookworm-security"]),
    ],
)
def test_another_suite_comes_from_the_same_mirrors(etc: Path, suite: str, suites: list[str]) -> None:
    put(etc, "sources.list.d/debian.sources", DEB822)
    text = debian_sources(suite, machine(etc))
    lines = text.splitlines()
    assert [line.removeprefix("Suites: ") for line in lines if line.startswith("Suites")] == suites
    assert [line for line in lines if line.startswith("URIs")] == [
        "URIs: http://mirror.example/debian",
        "URIs: http://mirror.example/debian-security/",
    ][: len(suites)]


def test_another_release_is_checked_with_all_of_debians_keys(etc: Path) -> None:
    one = "/usr/share/keyrings/debian-archive-bookworm-stable.gpg"
    put(etc, "sources.list", f"deb [signed-by={one}] http://m.example/debian bookworm main\n")
    assert f"Signed-By: {one}\n" in debian_sources(machine=machine(etc))
    assert f"Signed-By: {KEYRING}\n" in debian_sources("trixie", machine(etc))


def test_this_machine() -> None:
    assert f"Suites: {codename()}" in debian_sources()
