# SPDX-License-Identifier: Apache-2.0
"""Where the document of a measurement holds the value of each metric."""

from __future__ import annotations

from zclab.analysis.document import Cpu, MeasurementDocument, RpcFigures
from zclab.base.metrics import METRICS, Metric


def value(measurement: MeasurementDocument, metric: Metric) -> float | None:
    """Return a metric of one measurement, in the unit that METRICS names; null if it was not measured.

    A metric of one end, such as sender_usec_per_mib, is a field of the CPU of that end.
    """
    holder: MeasurementDocument | RpcFigures | Cpu | None = measurement
    end, _, field = metric.partition("_")
    if METRICS[metric].rpc:
        holder, field = measurement.rpc, metric
    elif end == "receiver":
        holder = measurement.receiver_cpu
    elif end == "sender":
        holder = measurement.sender_cpu
    else:
        field = metric
    found: float | None = getattr(holder, field) if holder is not None else None
    return found
