# SPDX-License-Identifier: Apache-2.0
"""A user's environment steers nothing: no child gets it, and what a user needs goes on."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import factories
from tests.steering import STEERING

from zclab.base import environment
from zclab.base.paths import project_root
from zclab.base.process import run
from zclab.deploy import playbooks
from zclab.lab import inventory

SRC = project_root() / "src" / "zclab"
#: What a machine needs to reach its archives, or a user to be reached.
NEEDED = {
    "http_proxy": "http://proxy.example:3128",
    "HTTPS_PROXY": "http://proxy.example:3128",
    "no_proxy": "localhost",
    "SSL_CERT_FILE": "/etc/ssl/own.pem",
    "PIP_INDEX_URL": "https://packages.example/simple",
    "PIP_CONFIG_FILE": "/etc/own-pip.conf",
    "SSH_AUTH_SOCK": "/run/agent",
    "XDG_CACHE_HOME": "/var/cache/mine",
    "ZCLAB_CACHE": "/var/cache/zclab",
    "TERM": "xterm",
    "NO_COLOR": "1",
}


def test_a_child_gets_what_is_needed_and_nothing_that_steers() -> None:
    own = {**STEERING, **NEEDED, "HOME": "/home/me", "PATH": "/opt/bin:/usr/bin"}
    found = environment.of_child(own=own)
    assert found == environment.of_child(own={**NEEDED, "HOME": "/home/me", "PATH": "/opt/bin:/usr/bin"})
    assert {name: found[name] for name in NEEDED} == NEEDED
    assert (found["LC_ALL"], found["TZ"]) == ("C", "UTC")
    assert not {name for name, value in STEERING.items() if found.get(name) == value}


def test_a_function_that_bash_exports_goes_no_further() -> None:
    assert "BASH_FUNC_sh%%" not in environment.of_child(own={"BASH_FUNC_sh%%": "() { false; }"})


@pytest.mark.parametrize("directory", ["", "relative", "/nowhere", "/etc/passwd"])
def test_a_directory_for_temporary_files_that_cannot_be_used(directory: str) -> None:
    assert "TMPDIR" not in environment.of_child(own={"TMPDIR": directory})


def test_a_directory_for_temporary_files(tmp_path: Path) -> None:
    assert environment.of_child(own={"TMPDIR": str(tmp_path)})["TMPDIR"] == str(tmp_path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a::.:bin:/b", "/a:/b"), ("", environment.SYSTEM_PATH), (".", environment.SYSTEM_PATH)],
)
def test_programs_are_not_looked_for_where_the_work_is(path: str, expected: str) -> None:
    assert environment.of_child(own={"PATH": path})["PATH"] == expected


def test_a_home_that_is_not_set_is_that_of_the_user() -> None:
    assert environment.of_child(own={})["HOME"] == environment.of_child(own={"HOME": ""})["HOME"] != ""


def test_a_caller_has_the_last_word() -> None:
    found = environment.of_child({"LC_ALL": "C.UTF-8", "TERM": None, "ARCH": "x86"}, own=NEEDED)
    assert (found["LC_ALL"], found["ARCH"]) == ("C.UTF-8", "x86")
    assert "TERM" not in found


def test_what_is_built_comes_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cc").write_text("#!/bin/sh\necho mine\n")
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = run(["sh", "-c", "command -v cc || echo none"], environment=environment.BUILD)
    assert found in ("none", *(f"{place}/cc" for place in environment.SYSTEM_PATH.split(":")))


def test_a_command_gets_them_and_makes_files_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in STEERING.items():
        monkeypatch.setenv(name, value)
    old = os.umask(0o077)
    try:
        seen = run(["sh", "-c", 'env; : >"$0"', str(tmp_path / "file")])
    finally:
        os.umask(old)
    assert not {f"{name}={value}" for name, value in STEERING.items()} & set(seen.splitlines())
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


# ------------------------------------------------------------------------------------------ every child


def starts(path: Path) -> Iterator[tuple[int, set[str | None]]]:
    """Yield line and keywords of each call in a module that starts a process."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in ("subprocess.run", "subprocess.Popen", "subprocess.check_output", "subprocess.call"):
            yield node.lineno, {keyword.arg for keyword in node.keywords}
        assert not name.startswith(("os.exec", "os.spawn", "os.posix_spawn", "os.system", "os.popen")), path


@pytest.mark.parametrize(
    "path",
    [
        path
        for top in (SRC, project_root() / "roles")
        for path in sorted(top.rglob("*.py"))
        # Not what runs on hosts, which has the environment of a login; nor plugins, which have Ansible's: one
        # of them runs the reset command that an inventory names, as the user would.
        if "subprocess." in path.read_text(encoding="utf-8")
        and not {"probe", "module_utils", "library", "kernel_boot"} & set(path.parts)
    ],
    ids=lambda path: str(path.relative_to(project_root())),
)
def test_every_child_process_is_given_its_variables(path: Path) -> None:
    for line, keywords in starts(path):
        assert "env" in keywords, f"{path}:{line}: starts a process with the user's environment"


# ---------------------------------------------------------------------------------------------- Ansible

PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Say what is there
      ansible.builtin.debug:
        msg: "{{ lookup('ansible.builtin.env', item) }}"
      loop: [ANSIBLE_BECOME, PYTHONPATH, LC_ALL]
"""


def test_ansible_reads_an_inventory_whatever_the_user_has_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in STEERING.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(home_that_steers(tmp_path)))
    directory = project_root() / "inventory" / "virtual"
    assert inventory.load("virtual") == inventory.parse(directory, factories.listing(directory))


def home_that_steers(directory: Path) -> Path:
    """Return a home with settings of Ansible and git that would break the lab."""
    home = directory / "home"
    (home / ".ansible/plugins/modules").mkdir(parents=True)
    (home / ".ansible.cfg").write_text("[defaults]\nstdout_callback = no_such_callback\n")
    (home / ".gitconfig").write_text("[core\n")
    (home / ".ansible/plugins/modules/debug.py").write_text("raise SystemExit(1)\n")
    return home


def test_a_playbook_runs_whatever_the_user_has_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "say.yml").write_text(PLAYBOOK)
    (tmp_path / "hosts.yml").write_text("all: {hosts: {localhost: {ansible_connection: local}}}\n")
    monkeypatch.setattr(playbooks, "project_root", lambda: tmp_path)
    for name, value in STEERING.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(home_that_steers(tmp_path)))
    before = dict(os.environ)
    lines: list[str] = []
    outcome = playbooks.run("say", tmp_path / "hosts.yml", tmp_path / "artifacts", lines.append)
    assert outcome.changed == {"localhost": 0}
    assert lines == ["Say what is there"]
    assert dict(os.environ) == before
    (events,) = outcome.directory.glob("artifacts/*/job_events")
    said = [json.loads(path.read_text())["event_data"] for path in sorted(events.glob("*.json"))]
    results: list[dict[str, Any]] = [one["res"] for one in said if isinstance(one.get("res"), dict)]
    assert [one["msg"] for one in results if "msg" in one and one.get("item")] == ["", "", "C.UTF-8"]


@pytest.mark.parametrize("config", [None, "{root}/ansible.cfg"], ids=["not read", "named"])
def test_a_playbook_that_is_run_from_elsewhere_says_what_to_do(config: str | None, tmp_path: Path) -> None:
    """Its roles are found, and its settings are not: what it would do then is not what it says."""
    root = project_root()
    settings = {"ANSIBLE_CONFIG": config.format(root=root)} if config else {}
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    done = subprocess.run(
        [program, "-i", str(root / "inventory" / "virtual"), str(root / "playbooks" / "lab.yml")],
        cwd=tmp_path,
        env={**os.environ, **settings, "ANSIBLE_NOCOLOR": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"Ansible has not read {root}/ansible.cfg: run ansible-playbook in {root}"
    assert (done.returncode == 0, said in " ".join(done.stdout.split())) == (bool(config), not config), done


# ----------------------------------------------------------------------------------------- zclab itself


@pytest.mark.parametrize(
    "settings",
    [
        {"PYTHONPATH": "{shadow}"},
        {"PYTHONOPTIMIZE": "2"},
        {"PYTHONWARNINGS": "error"},
        {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        {name: value for name, value in STEERING.items() if name != "PYTHONHOME"},
    ],
    ids=["PYTHONPATH", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONIOENCODING", "all"],
)
def test_zclab_itself_runs_whatever_the_user_has_set(settings: dict[str, str], tmp_path: Path) -> None:
    """Python reads PYTHONHOME before anything of zclab runs: that one alone is the user's own affair."""
    (tmp_path / "click.py").write_text("raise SystemExit('the click of another project')\n")
    own = {name: value.format(shadow=tmp_path) for name, value in settings.items()}
    zclab = str(Path(sys.executable).with_name("zclab"))
    plain = subprocess.run([zclab, "show", "--help"], capture_output=True, text=True, check=True)
    done = subprocess.run(
        [zclab, "show", "--help"], capture_output=True, text=True, check=False, env={**os.environ, **own}
    )
    assert (done.returncode, done.stdout) == (0, plain.stdout), done.stderr
    assert "Example: zclab show" in done.stdout


# ------------------------------------------------------------------------------------ bootstrap and make

#: Stands for Python: makes a virtual environment of itself, and keeps the variables that pip gets.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
"-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
"-m pip install"*) env >pip-environment ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what bootstrap reads, with a Python of its own."""
    directory = tmp_path / "check out"
    (directory / "scripts").mkdir(parents=True)
    for name in ("scripts/bootstrap", "scripts/kept_variables", "requirements.lock", "pyproject.toml"):
        (directory / name).write_bytes((project_root() / name).read_bytes())
        (directory / name).chmod(0o755)
    (directory / "python").write_text(FAKE_PYTHON)
    (directory / "python").chmod(0o755)
    return directory


def bootstrap(checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    own = {"PATH": os.environ["PATH"], "PYTHON": str(checkout / "python"), **variables}
    return subprocess.run(
        ["scripts/bootstrap"], cwd=checkout, env=own, capture_output=True, text=True, check=False
    )


def test_bootstrap_works_in_its_own_checkout_alone(checkout: Path, tmp_path: Path) -> None:
    """cd goes elsewhere where CDPATH says so, and .venv would be removed there."""
    other = tmp_path / "other"
    (other / "scripts").mkdir(parents=True)
    (other / ".venv").mkdir()
    done = bootstrap(checkout, CDPATH=str(other))
    assert done.returncode == 0, done
    assert (other / ".venv").is_dir()
    assert (checkout / ".venv" / "locked").is_file()


def test_bootstrap_gives_pip_what_the_network_needs_and_nothing_that_steers(checkout: Path) -> None:
    done = bootstrap(checkout, **STEERING, **NEEDED)
    assert done.returncode == 0, done
    seen = set((checkout / "pip-environment").read_text().splitlines())
    assert {f"{name}={value}" for name, value in NEEDED.items()} <= seen
    assert not {f"{name}={value}" for name, value in STEERING.items() if value} & seen
    assert {"PIP_USER=0", "PIP_DRY_RUN=0", "LC_ALL=C"} <= seen
    assert bootstrap(checkout, **STEERING).stdout == ""  # up to date already


@pytest.mark.parametrize("missing", ["requirements.lock", "pyproject.toml", "scripts/kept_variables"])
def test_bootstrap_removes_nothing_when_it_cannot_read_what_is_wanted(missing: str, checkout: Path) -> None:
    assert bootstrap(checkout).returncode == 0
    (checkout / ".venv" / "mark").touch()
    (checkout / missing).unlink()
    done = bootstrap(checkout)
    assert done.returncode != 0, done
    assert missing.rpartition("/")[2] in done.stderr
    assert (checkout / ".venv" / "mark").is_file()


def test_bootstrap_removes_nothing_without_sha256sum(checkout: Path, tmp_path: Path) -> None:
    assert bootstrap(checkout).returncode == 0
    (checkout / ".venv" / "mark").touch()
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in Path(os.environ["PATH"]).iterdir():
        if program.name != "sha256sum":
            (programs / program.name).symlink_to(program.resolve())
    done = bootstrap(checkout, PATH=str(programs))
    assert done.returncode == 1
    assert "sha256sum does not work" in done.stderr
    assert (checkout / ".venv" / "mark").is_file()


def test_make_hands_on_nothing_that_steers(tmp_path: Path) -> None:
    """GNU make's own variables are the user's choice: make -n says so, too."""
    (tmp_path / "Makefile").write_text(f"include {project_root()}/Makefile\nshow:\n\t@env\n")
    own = {name: value for name, value in STEERING.items() if not name.startswith(("MAKE", "GNUMAKE"))}
    done = subprocess.run(
        ["make", "-s", "-f", str(tmp_path / "Makefile"), "show"],
        cwd=project_root(),
        env={**own, **NEEDED, "PATH": os.environ["PATH"], "BASH_FUNC_env%%": "() { false; }"},
        capture_output=True,
        text=True,
        check=True,
    )
    seen = set(done.stdout.splitlines())
    assert {f"{name}={value}" for name, value in NEEDED.items()} <= seen
    assert not {f"{name}={value}" for name, value in own.items() if value} & seen
