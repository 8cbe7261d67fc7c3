# SPDX-License-Identifier: Apache-2.0
"""The base of every model, and the names of roles and modes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A frozen model that knows every key it may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Role = Literal["sender", "receiver"]


ReceiveMode = Literal["copy", "map_each", "map_once", "map_once_hybrid"]


SendMode = Literal["copy", "zerocopy"]
