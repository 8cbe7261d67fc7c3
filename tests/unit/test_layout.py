# SPDX-License-Identifier: Apache-2.0
"""The layout of the Python package: which package imports which, no circles, no names at second hand."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from zclab.base.paths import project_root

SRC = project_root() / "src" / "zclab"
MOST_LINES = 700
#: A package imports only packages above it.
PACKAGES = [
    "base",
    "debian",
    "kernel",
    "lab",
    "host",
    "backends",
    "deploy",
    "traffic",
    "plan",
    "runs",
    "analysis",
    "measure",
    "report",
    "suites",
    "jobs",
    "cli",
]
#: What runs on hosts is sent there; the checks that send it read its tables.
PROBE = "probe"
#: Arrows that run back up: the traffic tool's command line is that of a planned measurement, and a plan with
#: fewer pairs than its statistics need is refused.
BACK_UP = {("traffic", "plan"), ("plan", "analysis")}


def modules(directory: Path) -> dict[str, Path]:
    """Return the modules below a package's directory by their dotted names."""
    found = {}
    for path in sorted(directory.rglob("*.py")):
        parts = path.relative_to(directory.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path) -> Iterator[tuple[str, str]]:
    """Yield each (module, name) that a module imports when it is loaded or used, relative ones resolved."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def arrows(known: dict[str, Path]) -> dict[str, set[str]]:
    """Return the modules that each module imports, of the known ones."""
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = {
            f"{module}.{what}" if f"{module}.{what}" in known else module
            for module, what in imported(name, path)
        }
        found[name] = {target for target in targets if target in known and target != name}
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the names along a circle of a graph, [] if it has none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [*error.args[1]]
    return []


def second_hand(known: dict[str, Path]) -> list[str]:
    """Return the imports of a name from a module that has only imported it."""
    defined = {name: _bound(path) for name, path in known.items()}
    return [
        f"{name}: {what} of {module}"
        for name, path in known.items()
        for module, what in imported(name, path)
        if module in known and what and f"{module}.{what}" not in known and what not in defined[module]
    ]


def _bound(path: Path) -> set[str]:
    """Return the names that a module binds itself at its top level."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            found |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return found


def test_a_package_imports_only_what_stands_above_it() -> None:
    order = {name: at for at, name in enumerate(PACKAGES)}
    wrong = set()
    for name, targets in arrows(modules(SRC)).items():
        own = name.split(".")[1] if "." in name else ""
        for target in targets:
            other = target.split(".")[1] if "." in target else ""
            if own == PROBE and other not in (PROBE, ""):
                wrong.add(f"{name} -> {target}: what runs on a host has the standard library only")
            elif (
                own in order and other in order and order[other] > order[own] and (own, other) not in BACK_UP
            ):
                wrong.add(f"{name} -> {target}")
    assert wrong == set()


def test_every_package_has_its_place() -> None:
    there = {path.name for path in SRC.iterdir() if (path / "__init__.py").is_file()}
    assert there - {PROBE} <= set(PACKAGES)


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = modules(SRC)
    assert len(known) > 50
    assert circle(arrows(known)) == []


def test_no_module_hands_on_what_it_imported() -> None:
    assert second_hand(modules(SRC)) == []


def test_no_file_is_too_long() -> None:
    long = {
        str(path.relative_to(SRC)): lines
        for path in SRC.rglob("*")
        if path.suffix in (".py", ".c", ".sh") and (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert long == {}


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A package with a circle and with a name at second hand."""
    directory = tmp_path / "planted"
    directory.mkdir()
    (directory / "__init__.py").write_text("")
    (directory / "one.py").write_text("from planted.two import thing\n")
    (directory / "two.py").write_text("from . import three\nthing = three\n")
    (directory / "three.py").write_text("def late():\n    from planted.one import thing\n    return thing\n")
    return directory


def test_a_planted_circle_is_seen(planted: Path) -> None:
    found = circle(arrows(modules(planted)))
    assert set(found) == {"planted.one", "planted.two", "planted.three"}
    (planted / "three.py").write_text("")
    assert circle(arrows(modules(planted))) == []


def test_a_planted_name_at_second_hand_is_seen(planted: Path) -> None:
    assert second_hand(modules(planted)) == ["planted.three: thing of planted.one"]


#: What brings hosts up, measures or judges: commands that measure or check leave it to measure/ and suites/.
WORK = {"kernel", "host", "backends", "deploy", "traffic", "plan", "analysis"}


def worked_with(known: dict[str, Path], module: str) -> set[str]:
    """Return the modules of the packages in WORK that a module imports itself."""
    return {target for target in arrows(known)[module] if target.split(".")[1] in WORK}


@pytest.mark.parametrize("module", ["zclab.cli.measure", "zclab.cli.suites"])
def test_a_command_leaves_the_work_to_others(module: str) -> None:
    assert worked_with(modules(SRC), module) == set()


def test_planted_work_in_a_command_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "suites.py"
    path.write_text("def f(lab):\n    from zclab.deploy import bring_up\n    bring_up.boot(lab)\n", "utf-8")
    known = {**modules(SRC), "zclab.cli.suites": path}
    assert worked_with(known, "zclab.cli.suites") == {"zclab.deploy.bring_up"}


def kinds_asked_for(path: Path) -> list[int]:
    """Return the lines of a module that compare or match a lab's kind."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        asked = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        asked += [node.subject] if isinstance(node, ast.Match) else []
        found += [
            one.lineno
            for one in asked
            if isinstance(one, ast.Attribute) and ast.unparse(one).endswith("lab.kind")
        ]
    return found


#: How a playbook or a role asks: it compares the kind, or the role that a backend names, with something.
_ASKED = r"(?:\bzclab\.kind\b|\bzclab\[.kind.\]|\bcontroller_kind\b|\bbackend\.role\b)"
_KIND_IN_YAML = re.compile(
    rf"{_ASKED}\)?\s*(?:[!=]=|(?:not )?in\b|is (?!(?:not )?defined))|(?:[!=]=|\bin)\s*{_ASKED}"
)


def kinds_asked_for_by_ansible(path: Path) -> list[str]:
    """Return the lines of a playbook or a role's task or template that compare a lab's kind."""
    return [line.strip() for line in path.read_text("utf-8").splitlines() if _KIND_IN_YAML.search(line)]


def test_no_playbook_and_no_role_asks_for_the_kind_of_a_lab() -> None:
    paths = [
        path
        for folder in ("playbooks", "roles")
        for path in (project_root() / folder).rglob("*")
        if path.suffix in (".yml", ".j2")
    ]
    assert len(paths) > 50
    assert {path: asked for path in paths if (asked := kinds_asked_for_by_ansible(path))} == {}


@pytest.mark.parametrize(
    "line",
    [
        'when: zclab.kind == "virtual"',
        "{{ log if zclab.kind == 'virtual' else '' }}",
        "when: zclab['kind'] != 'hardware'",
        "when: 'virtual' == zclab.kind",
        "when: zclab.kind in ['virtual', 'namespaces']",
        "when: zclab.backend.role == 'virtual_hosts'",
    ],
)
def test_a_planted_question_of_a_playbook_is_seen(line: str, tmp_path: Path) -> None:
    path = tmp_path / "planted.yml"
    path.write_text(f"- name: Make the hosts\n  {line}\n", "utf-8")
    assert kinds_asked_for_by_ansible(path) == [line]


def test_only_the_choice_of_a_backend_asks_for_the_kind_of_a_lab() -> None:
    others = [path for folder in ("lab_tests", "roles") for path in (project_root() / folder).rglob("*.py")]
    paths = [*SRC.rglob("*.py"), *others]
    asking = [path for path in paths if kinds_asked_for(path)]
    assert asking == [SRC / "backends" / "choice.py"]


def test_a_planted_question_for_the_kind_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "planted.py"
    path.write_text(
        'def f(lab):\n    return 1 if lab.kind in ("virtual",) else "virtual" == lab.kind\n'
        'def g(self):\n    return self._lab.kind == "virtual"\n',
        "utf-8",
    )
    assert sorted(kinds_asked_for(path)) == [2, 2, 4]
