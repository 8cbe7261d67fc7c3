# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def lab_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --lab to a command."""
    return click.option(
        "--lab",
        "lab_name",
        default="virtual",
        show_default=True,
        metavar="LAB",
        help="A name under inventory/, or an inventory directory.",
    )(command)


def kernel_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --kernel to a command that takes a lab as if it booted that one."""
    return click.option(
        "--kernel", metavar="VARIANT", help="One of the lab's kernels instead of the one that it boots."
    )(command)


boot_option = click.option(
    "--kernel", "variant", metavar="VARIANT", help="Boot this kernel of the lab first."
)
diff_option = click.option(
    "--diff", nargs=2, metavar="A B", help="Show what moved from one kernel of the lab to another."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def listed(text: str | None, convert: Callable[[str], Any], option: str) -> list[Any] | None:
    """Return the values of an option that holds a list with commas; None where it was not given."""
    if text is None:
        return None
    try:
        return [convert(part.strip()) for part in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{error}", param_hint=option) from None
