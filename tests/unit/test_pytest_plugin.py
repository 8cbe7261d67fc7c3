# SPDX-License-Identifier: Apache-2.0
"""The plugin for lab tests: claims that do not exist are refused, JUnit XML lands in the run's folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zclab import pytest_plugin
from zclab.base.paths import project_root


class Item:
    """A collected test with a claim marker."""

    nodeid = "lab_tests/test_x.py::test_x"

    def __init__(self, *claims: str) -> None:
        self._marker = pytest.mark.claim(*claims).mark

    def iter_markers(self, name: str) -> list[Any]:
        return [self._marker] if name == "claim" else []


def collect(*items: Any) -> None:
    pytest_plugin.pytest_collection_modifyitems(list(items))


def test_claims_that_exist() -> None:
    collect(Item("F4", "Z1"), Item())


def test_a_claim_that_does_not_exist() -> None:
    with pytest.raises(pytest.UsageError, match=r"test_x\.py::test_x: docs/claims\.yml has no claim F99$"):
        collect(Item("F4", "F99"))


class Config:
    """As much of pytest's configuration as the plugin looks at."""

    def __init__(self, args: list[str], xmlpath: str | None = None, **options: str | None) -> None:
        self.args = args
        self.option = SimpleNamespace(xmlpath=xmlpath)
        self.stash = pytest.Stash()
        self.lines: list[str] = []
        self._options = options

    def addinivalue_line(self, name: str, line: str) -> None:
        self.lines.append(line)

    def getoption(self, name: str) -> str | None:
        return self._options.get(name.removeprefix("--"))


def configured(*args: str, xmlpath: str | None = None) -> Any:
    config: Any = Config(list(args), xmlpath)
    pytest_plugin.pytest_configure(config)
    return config


@pytest.mark.parametrize(
    "argument", ["lab_tests", "lab_tests/test_plan.py", "lab_tests/test_plan.py::test_x"]
)
def test_lab_tests_write_junit_into_the_runs_folder(argument: str, tmp_path: Path) -> None:
    config = configured(str(project_root() / argument))
    junit = Path(config.option.xmlpath)
    junit.write_text("<testsuites/>", encoding="utf-8")
    config.stash[pytest_plugin._RUN] = tmp_path
    pytest_plugin.pytest_unconfigure(config)
    assert (tmp_path / "junit.xml").read_text(encoding="utf-8") == "<testsuites/>"
    assert not junit.parent.exists()


def test_without_a_run_nothing_is_left() -> None:
    config = configured(str(project_root() / "lab_tests"))
    junit = Path(config.option.xmlpath)
    junit.write_text("<testsuites/>", encoding="utf-8")
    pytest_plugin.pytest_unconfigure(config)
    assert not junit.parent.exists()


def test_a_path_that_was_asked_for_is_kept() -> None:
    config = configured(str(project_root() / "lab_tests"), xmlpath="mine.xml")
    assert config.option.xmlpath == "mine.xml"
    pytest_plugin.pytest_unconfigure(config)


def test_other_tests_write_none() -> None:
    assert configured(str(project_root() / "tests")).option.xmlpath is None


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"lab": "nosuch"}, "nosuch: no such lab"),
        ({"lab": "virtual", "plan": "nosuch"}, "nosuch: no such plan"),
    ],
)
def test_an_impossible_lab_or_plan_is_a_usage_error(options: dict[str, str], word: str) -> None:
    config: Any = Config([], **options)
    with pytest.raises(pytest.UsageError, match=word):
        pytest_plugin.chosen_plan(config)
