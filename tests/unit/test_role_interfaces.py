# SPDX-License-Identifier: Apache-2.0
"""Every role: its interface is declared whole, each default once, and its variables carry its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.role_modules import write_tree

from zclab.base.paths import project_root
from zclab.jobs import role_readmes

ROLES = sorted(path for path in (project_root() / "roles").iterdir() if path.is_dir())


PLAYS = [
    pytest.param(play, id=f"{path.stem}: {play['name']}")
    for path in sorted((project_root() / "playbooks").glob("**/*.yml"))
    if path.parent.name != "vars"
    for play in yaml.safe_load(path.read_text(encoding="utf-8"))
    if "hosts" in play
]
#: Roles that only root of a host can run.
ROOT_ROLES = {"link_tuning", "host_limits", "kernel_boot", "traffic_tool", "host_programs"}


def _yaml(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def _undeclared(name: str, option: dict[str, Any]) -> list[str]:
    """Return the dictionaries in an option whose keys are neither declared nor free ("Map of ...")."""
    inner = option.get("options")
    if inner:
        return [
            problem
            for key, one in inner.items()
            for problem in (
                *([] if one.get("description") and one.get("type") else [f"{name}.{key} is not described"]),
                *_undeclared(f"{name}.{key}", one),
            )
        ]
    holds_dict = "dict" in (option.get("type"), option.get("elements"))
    free = str(option.get("description", "")).startswith("Map of")
    return [f"{name} has keys that are not declared"] if holds_dict and not free else []


def problems(role: Path) -> list[str]:
    """Return what is wrong with the interface of a role, one line each."""
    specs: dict[str, Any] = _yaml(role / "meta/argument_specs.yml").get("argument_specs", {})
    defaults = _yaml(role / "defaults/main.yml")
    found = []
    entries = {path.stem for path in (role / "tasks").glob("*.yml")}
    if entries and not specs:
        found.append("no meta/argument_specs.yml")
    missing = {"author", "description", "license", "min_ansible_version"} - set(
        _yaml(role / "meta/main.yml").get("galaxy_info", {})
    )
    found += [f"meta/main.yml: galaxy_info has no {key}" for key in sorted(missing)]
    found += [f"entry point {entry} has no tasks/{entry}.yml" for entry in set(specs) - entries]
    options: dict[str, dict[str, Any]] = {}
    for entry, spec in specs.items():
        for name, option in (spec.get("options") or {}).items():
            if not name.startswith(f"{role.name}_"):
                found.append(f"{entry}: {name} does not start with {role.name}_")
            if not option.get("description"):
                found.append(f"{entry}: {name} has no description")
            found += [f"{entry}: {problem}" for problem in _undeclared(name, option)]
            if option.get("required") and name in defaults:
                found.append(f"{entry}: {name} is required and has a default")
            if not option.get("required") and name not in defaults:
                found.append(f"{entry}: {name} is not required and has no default in defaults/main.yml")
            if "default" in option:
                found.append(f"{entry}: {name} has a default here: its place is defaults/main.yml")
            options[name] = option
    found += [
        f"{name} is in defaults/main.yml and in no entry point" for name in set(defaults) - set(options)
    ]
    return found


@pytest.mark.parametrize("role", ROLES, ids=lambda role: str(role.name))
def test_interface(role: Path) -> None:
    assert problems(role) == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: str(role.name))
def test_each_default_is_explained(role: Path) -> None:
    """Above each default stands a comment with its meaning and an example."""
    path = role / "defaults/main.yml"
    if not path.exists():
        return
    comment: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            comment.append(line)
        elif line and not line.startswith((" ", "-")):
            name = line.partition(":")[0]
            assert comment and "Example" in " ".join(comment), (
                f"{path}: {name} has no comment with an example"
            )
            comment = []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: str(role.name))
def test_readme_is_current(role: Path) -> None:
    assert (role / "README.md").read_text(encoding="utf-8") == role_readmes.readme(role), "run `make docs`"


def test_a_readme_lists_all_that_is_declared(tmp_path: Path) -> None:
    role = write_tree(
        tmp_path / "r",
        {
            "meta/main.yml": "dependencies: [{role: common}]\n",
            "meta/argument_specs.yml": """
argument_specs:
  main:
    short_description: Does it all
    options:
      r_size: {description: Size as in C(a|b)., type: int}
      r_hosts:
        {description: Hosts., type: list, elements: dict, required: true, options: {
          kind: {description: Kind., type: str, choices: [x, y]}}}
  restore: {short_description: Undoes it, options: {}}
""",
            "defaults/main.yml": "# How large. Example: 7\nr_size: 1\n",
        },
    )
    text = role_readmes.readme(role)
    assert (
        "edit these. -->\n\nNeeds beside it: the role common.\n\n## Entry point `main`\n\nDoes it all.\n"
        in text
    )
    assert "| `r_size` | int | `1` | Size as in `a\\|b`. Example: `7` |" in text
    assert "| `r_hosts` | list of dict | required | Hosts. |" in text
    assert "| `r_hosts.kind` | str |  | Kind. One of `x`, `y`. |" in text
    assert text.endswith("## Entry point `restore`\n\nUndoes it.\n\nIt has no variables.\n")


@pytest.mark.parametrize(
    ("specs", "defaults", "expected"),
    [
        ({"r_size": {"description": "x", "type": "int", "default": 1}}, {"r_size": 1}, "a default here"),
        ({"r_size": {"description": "x"}}, {}, "has no default in defaults"),
        ({"size": {"description": "x"}}, {}, "does not start with r_"),
        ({"r_size": {"description": "x", "required": True}}, {"r_size": 1}, "required and has a default"),
        ({}, {"r_size": 1}, "in no entry point"),
        ({"r_size": {"type": "int"}}, {}, "no description"),
        ({"r_lab": {"description": "x", "type": "dict"}}, {}, "r_lab has keys that are not declared"),
        (
            {"r_hosts": {"description": "x", "elements": "dict", "options": {"name": {"type": "str"}}}},
            {},
            "r_hosts.name is not described",
        ),
        ({}, {}, "galaxy_info has no license"),
    ],
)
def test_planted_faults_are_found(
    tmp_path: Path, specs: dict[str, Any], defaults: dict[str, Any], expected: str
) -> None:
    role = tmp_path / "r"
    for name in ("meta", "defaults", "tasks"):
        (role / name).mkdir(parents=True)
    (role / "tasks/main.yml").write_text("[]\n", encoding="utf-8")
    document = {"argument_specs": {"main": {"options": specs}}}
    (role / "meta/argument_specs.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    (role / "defaults/main.yml").write_text(yaml.safe_dump(defaults), encoding="utf-8")
    assert any(expected in problem for problem in problems(role)), problems(role)


def _roles(play: dict[str, Any]) -> set[str]:
    """Return the roles that a play runs."""
    tasks = [task for task in play.get("tasks", []) if "ansible.builtin.include_role" in task]
    included = {task["ansible.builtin.include_role"]["name"] for task in tasks}
    return included | {str(entry["role"]) for entry in play.get("roles", [])}


@pytest.mark.parametrize("play", PLAYS)
def test_what_needs_root_of_a_host_says_so(play: dict[str, Any]) -> None:
    on_hosts = not play["hosts"].startswith("localhost")
    if on_hosts and _roles(play) & ROOT_ROLES:
        assert play.get("become") is True, f"{play['name']}: become is not declared"
    if not on_hosts:
        assert "become" not in play, f"{play['name']}: the controller's roles ask for privilege by themselves"


def test_whatever_can_be_restored_is_restored() -> None:
    """No role leaves something on a host that restore.yml forgets, and it may remove it there."""
    playbooks = project_root() / "playbooks"
    parts = yaml.safe_load((playbooks / "vars/restore.yml").read_text(encoding="utf-8"))
    roles = {part["role"] for part in parts["__zclab_parts"]} | set(
        re.findall(r"'role': '(\w+)'", parts["zclab_parts"])
    )
    assert roles == {role.name for role in ROLES if (role / "tasks/restore.yml").exists()} == ROOT_ROLES
    plays = yaml.safe_load((playbooks / "restore.yml").read_text(encoding="utf-8"))
    play = next(play for play in plays if play["name"] == "Restore the hosts")
    assert (play["become"], play["any_errors_fatal"]) == (True, False)


def test_some_play_needs_root() -> None:
    """The check above finds what it looks for."""
    needed = set().union(*(_roles(play.values[0]) for play in PLAYS))  # type: ignore[arg-type]
    assert needed >= ROOT_ROLES
