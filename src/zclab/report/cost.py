# SPDX-License-Identifier: Apache-2.0
"""Instructions by function of two runs, as tables."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from zclab.analysis.cost import CostDocument, Row, Spread, Table
from zclab.report.terminal import new_table, print_line

_LEGEND = (
    "Instructions per MiB that the emulated guest executed in the receiver's window: the median of the boots "
    "and, in brackets, the lowest and the highest. Differs: yes or no; of too few boots to say, apart where "
    "all of A lie on one side of B. A cost beside another's: no time, and no share of CPU."
)


def show(console: Console, document: CostDocument, top: int) -> None:
    """Print both sides in each setting: all, by context, and the first functions."""
    print_line(console, f"A  {document.a}  kernel {document.kernel_a}")
    print_line(console, f"B  {document.b}  kernel {document.kernel_b}")
    for one in document.tables:
        console.print(_table(one, top))
        left = one.functions[top:]
        if left:
            difference = sum(row.difference for row in left)
            print_line(console, f"{len(left)} more functions differ by {difference:+,.0f} together (--top)")
        for share in one.shares:
            found = f"{_spread(share.percent, 2)} % of the instructions of its thread"
            published = f"published: {share.published_percent:g} % of its cycles, on hardware"
            print_line(console, f"{share.claim}: {share.side}: {share.what}: {found}; {published}")
    print_line(console, _LEGEND)


def _table(one: Table, top: int) -> RichTable:
    boots = f"boots: {one.boots_a} of A, {one.boots_b} of B; transfers of a boot: {one.places}"
    table = new_table(f"{one.setting} ({boots})", ["function"], ["A", "B", "B - A", "differs"])
    for row in [one.total, *one.contexts]:
        _add(table, row, f"[{row.name}]" if row is one.total else f"[in {row.name}]")
    table.add_section()
    for row in one.functions[:top]:
        _add(table, row, row.name)
    return table


def _add(table: RichTable, row: Row, name: str) -> None:
    differs = {True: "yes", False: "no", None: "apart" if row.apart else "-"}[row.differs]
    cells = [_spread(row.a), _spread(row.b), f"{row.difference:+,.0f}", differs]
    table.add_row(*(escape(cell) for cell in [name, *cells]))


def _spread(spread: Spread, digits: int = 0) -> str:
    return f"{spread.median:,.{digits}f} [{spread.low:,.{digits}f}, {spread.high:,.{digits}f}]"
