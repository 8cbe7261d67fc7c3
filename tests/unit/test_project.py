# SPDX-License-Identifier: Apache-2.0
"""The project as a whole: licences, words that do not belong into it, and files that have to be there."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from zclab.base.paths import project_root

ROOT = project_root()
#: Kinds of files that carry a licence line.
_LICENSED = {".py", ".c", ".h", ".sh", ".yml", ".yaml", ".config", ".cfg", ".toml", ".j2", ".mk"}
_LICENSED_NAMES = {"Makefile", ".gitignore", ".yamllint", ".ansible-lint", "run", "bootstrap", "Kconfig"}
_LICENSES = {"Apache-2.0", "GPL-2.0", "GPL-2.0-only"}
#: Hosts of package registries and archives, in words so that this file names none either. A machine's own
#: configuration says where things come from.
_REGISTRIES = """
    deb debian org; security debian org; snapshot debian org; ftp debian org; deb debian net;
    archive ubuntu com; pypi org; pypi python org; files pythonhosted org; kernel org; galaxy ansible com;
    registry npmjs org; crates io; proxy golang org; docker io; ghcr io; quay io;
    raw githubusercontent com; github com; gitlab com
"""
_HOSTS = [".".join(words.split()) for words in _REGISTRIES.split(";")]
FORBIDDEN = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, _HOSTS))})\b", re.IGNORECASE)
_KERNEL, _FORGES = _HOSTS[9], "|".join(map(re.escape, (_HOSTS[9], *_HOSTS[-2:])))
#: What a document may link to: a commit, and a document of the kernel.
LINK = re.compile(
    rf"https://(?:(?:git\.)?(?:{_FORGES})/[\w./~-]+/commit/(?:\?id=)?[0-9a-f]{{12,40}}\b"
    rf"|docs\.{re.escape(_KERNEL)}/[\w./#-]+|www\.{re.escape(_KERNEL)}/doc/[\w./#-]+)"
)


def registries(name: str, text: str) -> list[str]:
    """Return the registries that a file names; links that a document may have do not count."""
    return [match[0] for match in FORBIDDEN.finditer(LINK.sub("", text) if name.endswith(".md") else text)]


@functools.cache
def files() -> list[Path]:
    """Return every file that is tracked, or that is neither tracked nor ignored."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def text_of(path: Path) -> str:
    """Return a file's text; of a binary file, nothing."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def license_of(text: str) -> str | None:
    """Return the licence that the first lines of a file name."""
    found = re.search(r"SPDX-License-Identifier: (\S+)", "\n".join(text.splitlines()[:3]))
    return found[1] if found else None


def wanted_license(path: Path) -> set[str]:
    """Return the licences that a file may have."""
    inside = path.relative_to(ROOT).parts
    if inside[:2] == ("kernel", "patches"):
        return {"GPL-2.0", "GPL-2.0-only"}
    return {"GPL-2.0-or-later"} if inside[0] == "emulator" else {"Apache-2.0"}


def is_licensed_kind(path: Path) -> bool:
    return path.suffix in _LICENSED or path.name in _LICENSED_NAMES


def test_every_source_file_names_its_license() -> None:
    sources = [path for path in files() if is_licensed_kind(path)]
    assert len(sources) > 50
    wrong = [
        str(path.relative_to(ROOT))
        for path in sources
        if license_of(text_of(path)) not in wanted_license(path) | _extra(path)
    ]
    assert wrong == []


def _extra(path: Path) -> set[str]:
    """Test data that stands for the kernel's own files may carry the kernel's licence."""
    return _LICENSES if path.is_relative_to(ROOT / "tests" / "data") else set()


def test_a_missing_license_is_seen() -> None:
    assert license_of("#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n") == "Apache-2.0"
    assert license_of("/* SPDX-License-Identifier: GPL-2.0 */\n") == "GPL-2.0"
    assert license_of("print()\n") is None
    assert license_of("\n" * 10 + "# SPDX-License-Identifier: Apache-2.0\n") is None


def test_the_license_is_here() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_no_file_names_a_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files()
        if path.name not in ("requirements.lock", "LICENSE")
        for name in registries(path.name, text_of(path))
    ]
    assert found == []


@pytest.mark.parametrize("host", [*_HOSTS, f"lore.{_HOSTS[9]}", f"https://{_HOSTS[0]}/debian"])
def test_a_registry_is_seen(host: str) -> None:
    for name in ("build.py", "Makefile", "lab.yml", "README.md"):
        assert registries(name, f"get it from {host} now")


@pytest.mark.parametrize(
    "link",
    [
        f"https://git.{_KERNEL}/pub/scm/linux/kernel/git/torvalds/linux.git/commit/?id=05255b823a61",
        f"https://{_HOSTS[-2]}/torvalds/linux/commit/05255b823a617d1ba8bd2a5a4b9a4e7ee2d0f9d9",
        f"https://docs.{_KERNEL}/networking/msg_zerocopy.html#notification-reception",
        f"https://www.{_KERNEL}/doc/Documentation/networking/ip-sysctl.txt",
    ],
)
def test_only_a_document_links_to_a_commit_or_a_document_of_the_kernel(link: str) -> None:
    assert registries("measuring.md", f"see [this]({link}).") == []
    assert registries("measure.py", f"# see {link}") and registries("lab.yml", f"# see {link}")


@pytest.mark.parametrize(
    "link",
    [
        f"https://{_HOSTS[-2]}/torvalds/linux",
        f"https://{_HOSTS[-2]}/torvalds/linux/archive/v6.1.tar.gz",
        f"https://cdn.{_KERNEL}/pub/linux/kernel/v6.x/linux-6.1.tar.xz",
        f"https://{_HOSTS[6]}/simple/commit/05255b823a61",
    ],
)
def test_a_document_names_no_other_place(link: str) -> None:
    assert registries("measuring.md", f"see [this]({link}).")


@pytest.mark.parametrize(
    "text", ["net.core.rmem_max", "a Debian mirror", "github", "the kernel organisation"]
)
def test_other_words_are_no_registry(text: str) -> None:
    assert not FORBIDDEN.search(text)


def test_the_lock_names_no_registry() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"^\s*(--(extra-)?index-url|--find-links)|://", text, re.MULTILINE)


def test_the_lock_has_every_dependency_with_its_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==", text, re.MULTILINE | re.IGNORECASE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {
        re.split(r"[<>=!\[ ]", one)[0].lower().replace(".", "-").replace("_", "-")
        for one in project["dependencies"] + project["optional-dependencies"]["dev"]
    }
    assert wanted <= {name.lower().replace(".", "-").replace("_", "-") for name in locked}
    entries = re.split(r"\n(?=\S)", text)
    assert [one.splitlines()[0] for one in entries if "==" in one and "--hash=sha256:" not in one] == []


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "LICENSE",
        "Makefile",
        "ansible.cfg",
        "pyproject.toml",
        "requirements.lock",
        ".ci/run",
        "playbooks/site.yml",
        "playbooks/controller.yml",
        "playbooks/hosts_up.yml",
        "playbooks/hosts_down.yml",
        "playbooks/kernel.yml",
        "playbooks/tune.yml",
        "playbooks/restore.yml",
        "inventory/virtual/hosts.yml",
        "inventory/connectx3/hosts.yml",
        "kernel/configs",
        "kernel/patches",
        "traffic/Makefile",
        "lab_tests/conftest.py",
        "docs/commands.md",
    ],
)
def test_the_house_has_its_rooms(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize("program", ["cc", "gcc", "sudo", "ip", "sshd", "qemu-img"])
def test_a_unit_test_finds_no_compiler_no_sudo_and_no_host(program: str) -> None:
    assert shutil.which("git") and shutil.which(program) is None
    with pytest.raises(FileNotFoundError):
        subprocess.run([program], check=False)


def test_no_task_forgives_its_errors() -> None:
    found = [
        f"{path.relative_to(ROOT)}"
        for directory in ("playbooks", "roles")
        for path in (ROOT / directory).rglob("*.yml")
        if re.search(r"^\s*ignore_errors\s*:", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert found == []


def test_what_is_made_here_is_not_tracked() -> None:
    made = (".venv/", ".zclab/", "runs/", "build/")
    assert [path for path in files() if str(path.relative_to(ROOT)).startswith(made)] == []
