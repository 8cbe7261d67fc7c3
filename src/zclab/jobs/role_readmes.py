# SPDX-License-Identifier: Apache-2.0
"""Write README.md of each role from meta/main.yml, meta/argument_specs.yml and the comments of its defaults.

`make docs` runs it: python -m zclab.jobs.role_readmes
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from zclab.base.paths import project_root

_TABLE = "| variable | type | default | meaning |\n| --- | --- | --- | --- |"
_LONGEST_DEFAULT = 60


def readme(role: Path) -> str:
    """Return the text of a role's README.md."""
    meta = _yaml(role / "meta/main.yml")
    specs: dict[str, Any] = _yaml(role / "meta/argument_specs.yml").get("argument_specs", {})
    examples = _examples(role / "defaults/main.yml")
    defaults = {name: {"default": value} for name, value in _yaml(role / "defaults/main.yml").items()}
    parts = [f"# {role.name}", "<!-- Written by `make docs` from meta/ and defaults/: edit these. -->"]
    if needed := [entry["role"] for entry in meta.get("dependencies") or []]:
        parts.append(f"Needs beside it: the role{'s' if len(needed) > 1 else ''} {', '.join(needed)}.")
    if not specs:
        parts.append("It has no tasks: its modules are for other roles.")
    for entry, spec in specs.items():
        parts.append(f"## Entry point `{entry}`")
        parts.append(f"{spec['short_description'].rstrip('.')}.")
        options = {name: defaults.get(name, {}) | one for name, one in (spec.get("options") or {}).items()}
        rows = list(_rows(options, examples))
        parts.append("\n".join([_TABLE, *rows]) if rows else "It has no variables.")
    return "\n\n".join(parts) + "\n"


def _rows(options: dict[str, Any], examples: dict[str, str], above: str = "") -> Iterator[str]:
    for name, option in options.items():
        kind = str(option.get("type", "str"))
        if "elements" in option:
            kind += f" of {option['elements']}"
        text = re.sub(r"\b[CI]\(([^)]*)\)", r"`\1`", " ".join(str(option["description"]).split()))
        if choices := option.get("choices"):
            text += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
        if example := examples.get(name) if not above else "":
            text += f" {example}"
        cells = [f"`{above}{name}`", kind, _default(option), text]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        yield from _rows(option.get("options") or {}, examples, f"{above}{name}.")


def _default(option: dict[str, Any]) -> str:
    if option.get("required"):
        return "required"
    if "default" not in option:
        return ""
    shown = yaml.safe_dump(option["default"], default_flow_style=True, width=10_000).splitlines()[0]
    return f"`{shown}`" if len(shown) <= _LONGEST_DEFAULT else "see defaults/main.yml"


def _examples(defaults: Path) -> dict[str, str]:
    """Return the example in the comment above each default, by the variable's name."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in defaults.read_text(encoding="utf-8").splitlines() if defaults.exists() else []:
        if line.startswith("#"):
            comment.append(line.lstrip("# "))
        elif line and not line.startswith((" ", "-")):
            _, marked, example = " ".join(comment).rpartition("Example: ")
            found[line.partition(":")[0]] = f"Example: `{example}`" if marked else ""
            comment = []
        elif not line:
            comment = []
    return found


def _yaml(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def main() -> None:
    """Write the README.md of every role."""
    for role in sorted((project_root() / "roles").iterdir()):
        (role / "README.md").write_text(readme(role), encoding="utf-8")


if __name__ == "__main__":
    main()
