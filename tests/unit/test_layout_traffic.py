# SPDX-License-Identifier: Apache-2.0
"""The traffic tool's modules include each other in one direction only."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from tests.traffic_lab import TRAFFIC


def module_graph(directory: Path) -> dict[str, set[str]]:
    """Return for each module, a .c file and its .h file together, the modules that it includes."""
    graph: dict[str, set[str]] = {}
    for path in directory.glob("*.[ch]"):
        included = re.findall(r'^\s*#\s*include\s+"([^"]+)\.h"', path.read_text(), re.MULTILINE)
        graph.setdefault(path.stem, set()).update(set(included) - {path.stem})
    return graph


def order(directory: Path) -> list[str]:
    """Return the modules, each after those that it includes; CycleError where there is a circle."""
    return list(TopologicalSorter(module_graph(directory)).static_order())


def test_no_module_includes_itself_by_way_of_others() -> None:
    modules = order(TRAFFIC)
    assert set(modules) == {path.stem for path in TRAFFIC.glob("*.[ch]")}
    assert modules.index("session") < modules.index("streams") < modules.index("main")


def test_an_include_circle_is_caught(tmp_path: Path) -> None:
    """It goes by way of a header and of a source file: no file includes itself."""
    (tmp_path / "session.h").write_text('#include <stdio.h>\n#include "group.h"\n')
    (tmp_path / "group.h").write_text("struct session;\n")
    (tmp_path / "group.c").write_text('#include "group.h"\n')
    assert order(tmp_path) == ["group", "session"]
    (tmp_path / "group.c").write_text('#include "group.h"\n# include "session.h"\n')
    with pytest.raises(CycleError) as error:
        order(tmp_path)
    assert set(error.value.args[1]) == {"group", "session"}
