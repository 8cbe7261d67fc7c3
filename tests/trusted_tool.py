# SPDX-License-Identifier: Apache-2.0
"""Measures with a traffic tool that a test planted, as if it were the one that was built."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from zclab.analysis.document import RunDocument
from zclab.lab.model import Lab
from zclab.measure import channels, engine
from zclab.measure.session import Session
from zclab.plan.plan import Plan
from zclab.runs.records import Record
from zclab.traffic.command import TRAFFIC


class Silent:
    """A reporter that shows nothing."""

    def started(self, *_: Any) -> None:
        pass

    def measured(self, *_: Any) -> None:
        pass

    def finished(self, *_: Any) -> None:
        pass


def measure(lab: Lab, plan: Plan, tool: Path) -> tuple[RunDocument, list[Record]]:
    """Carry a plan out on hosts that have this tool; return the run judged, and its records."""
    digest = hashlib.sha256(tool.read_bytes()).hexdigest()

    class Trusting(Session):
        @staticmethod
        def built_programs() -> dict[str, str]:
            return {TRAFFIC: digest}

    run = engine.execute(lab, plan, Silent(), open_driver=channels.opener(Trusting.open_declared))
    document, records = run.document(), run.records()
    shutil.rmtree(run.directory)
    return document, records
