# SPDX-License-Identifier: Apache-2.0
"""What a run gave, beside the published figures of the same kind (claims F2 and F3)."""

from __future__ import annotations

import statistics

from rich.table import Table

from zclab.analysis.document import RunDocument
from zclab.base.metrics import Metric
from zclab.report.terminal import new_table

#: The claims of the copying receiver (arm A) and of the mapping one (arm B).
_COPYING, _MAPPING = "F2", "F3"
#: By metric, the name of the published figures in docs/claims.yml, and how precisely they are shown.
_FIGURES: dict[Metric, tuple[str, str]] = {
    "gbit_per_s": ("gbit_per_s", "{:.2f}"),
    "receiver_usec_per_mib": ("usec_per_mib", "{:.1f}"),
    "receiver_context_switches_per_mib": ("context_switches_per_mib", "{:.2f}"),
}


def table(document: RunDocument) -> Table:
    """Return medians of the run and of the published runs; empty where nothing of that kind was compared."""
    emulated = ", emulated" if document.emulated else ""
    columns = ("A", "B", "published, copying", "published, mapping")
    made = new_table(f"Beside the published figures (medians{emulated})", ("comparison", "metric"), columns)
    shown = set[tuple[str, Metric]]()
    for one in document.comparisons:
        # A threshold on one arm makes a line of its own; what has two thresholds is there twice.
        if one.arm_a is None or one.metric not in _FIGURES or (one.name, one.metric) in shown:
            continue
        key, form = _FIGURES[one.metric]
        of_claims = [one.reference.get(claim, {}).get(key) for claim in (_COPYING, _MAPPING)]
        if all(of_claims):
            shown.add((one.name, one.metric))
            figures = [one.median_a, one.median_b, *(statistics.median(them) for them in of_claims)]
            made.add_row(one.name, one.metric, *(_figure(value, form) for value in figures))
    return made


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
