# SPDX-License-Identifier: Apache-2.0
"""What the probe printed of a table, and the rows that it gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from zclab.host.ssh import Completed
from zclab.suites import probe_command
from zclab.suites.conformance.document import RowDocument, judged


@dataclass
class Answers:
    """What a host reported of a table: by row, or of the whole; and what kept it from reporting more."""

    began: bool = False
    of_rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    of_all: str | None = None
    trouble: str | None = None

    def hear(self, line: str) -> None:
        """Take a line that the probe printed: one JSON object.

        Raises:
            ValueError: it is none.
        """
        said = json.loads(line)
        if "row" in said:
            self.of_rows[said["row"]] = said
        elif "reason" in said:
            self.of_all = said["reason"]
        self.began = True

    def end(self, done: Completed) -> None:
        """Take how the probe ended."""
        if done.status != 0:
            last = probe_command.last_message(done)
            self.trouble = f"the probe ended with status {done.status}: {last}"

    def rows(self, abi: str, family: probe_command.Family, release: str) -> Iterator[RowDocument]:
        """Yield each row of the table. The first that nothing is known of is where the probe stopped."""
        stopped_at = None
        trouble = self.trouble or "the probe reported nothing of it"
        for row in probe_command.table(abi).cases:
            said = self.of_rows.get(row.name)
            if said is not None:
                yield judged(abi, row, family, release, said["outcome"], said["reason"])
            elif self.of_all is not None:
                yield judged(abi, row, family, release, None, self.of_all)
            elif stopped_at is None:
                stopped_at = row.name
                unknown = judged(abi, row, family, release, None, trouble)
                yield unknown.model_copy(update={"verdict": "fail"})
            else:
                reason = f"not tested: at {stopped_at}: {trouble}"
                yield judged(abi, row, family, release, None, reason)
