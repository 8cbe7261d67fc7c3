# SPDX-License-Identifier: Apache-2.0
"""The base of every model, and the names of roles and modes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError


class Model(BaseModel):
    """A frozen model that knows every key it may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def first_problem(error: ValidationError) -> str:
    """Return the first problem of data that does not fit a model as one line: "key.of.it: what is wrong"."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    return ": ".join(filter(None, [key, problem["msg"].removeprefix("Value error, ")]))


Role = Literal["sender", "receiver"]


ReceiveMode = Literal["copy", "map_each", "map_once", "map_once_hybrid"]


SendMode = Literal["copy", "zerocopy"]
