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
        "--kernel",
        metavar="VARIANT",
        help="Another kernel of the lab instead of the one that its inventory names.",
    )(command)


boot_option = click.option(
    "--kernel",
    "variant",
    metavar="VARIANT",
    help="Boot this kernel of the lab for the test; the hosts then return to theirs.",
)
diff_option = click.option(
    "--diff", nargs=2, metavar="A B", help="Show what differs between two kernels of the lab."
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
