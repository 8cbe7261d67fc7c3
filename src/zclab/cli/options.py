# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, TypeVar

import click

from zclab.lab.defaults import TWO_HOSTS

_F = TypeVar("_F", bound=Callable[..., Any])
_LAB_HELP = "A name under inventory/, or an inventory directory."


def lab_option(default: str, help_text: str = _LAB_HELP) -> Callable[[_F], _F]:
    """Return the option that names a lab, with the one that is taken where it is not given."""
    return click.option(
        "--lab", "lab_name", default=default, show_default=True, metavar="LAB", help=help_text
    )


#: For a plan, which may name the lab that it is made for.
plan_lab_option = click.option(
    "--lab", "lab_name", metavar="LAB", show_default=f"the plan's own, else {TWO_HOSTS}", help=_LAB_HELP
)
#: For a command that takes a lab as if it booted that kernel.
kernel_option = click.option(
    "--kernel",
    metavar="VARIANT",
    help="Another kernel of the lab instead of the one that its inventory names.",
)
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


def list_option(
    name: str, convert: Callable[[str], Any], text: str, *, field: str | None = None
) -> Callable[[_F], _F]:
    """Return an option that holds a list with commas, with this help; null where it is not given.

    field: the name of the function's parameter, where it is not that of the option.
    """

    def listed(context: click.Context, option: click.Parameter, value: str | None) -> list[Any] | None:
        if value is None:
            return None
        try:
            return [convert(part.strip()) for part in value.split(",")]
        except ValueError as error:
            raise click.BadParameter(f"{error}", param_hint=name) from None

    return click.option(name, *filter(None, [field]), callback=listed, help=text)


def drawn(context: click.Context, option: click.Parameter, seed: int | None) -> int:
    """Return the seed that an option gave, else a new one."""
    return secrets.randbelow(2**32) if seed is None else seed
