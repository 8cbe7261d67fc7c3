# SPDX-License-Identifier: Apache-2.0
"""The claims that the project must check, read from docs/claims.yml."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from zclab.base.model import Model
from zclab.base.paths import project_root


class Claim(Model):
    """One claim: `reference` holds the documents' figures, `note` what else there is to know."""

    id: str
    kind: Literal["semantic", "figure"]
    text: str
    note: str | None = None
    reference: dict[str, Any] = {}


def load() -> dict[str, Claim]:
    """Return all claims by id."""
    return _read(project_root() / "docs" / "claims.yml")


@cache
def _read(path: Path) -> dict[str, Claim]:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {claim["id"]: Claim.model_validate(claim) for claim in data["claims"]}
