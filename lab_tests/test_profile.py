# SPDX-License-Identifier: Apache-2.0
"""Where the sender's CPU goes, if profiles were asked for (--profile EVENT)."""

from __future__ import annotations

import re

import pytest

from zclab.analysis.document import MeasurementDocument
from zclab.plan.plan import Plan
from zclab.pytest_plugin import Measured, chosen_plan

#: What copies from user memory, by the names that Linux has had for it on x86.
USER_COPY = re.compile(r"copy_user|copyin|copy_from_iter|rep_movs|_copy_from_user|raw_copy_from_user")


@pytest.fixture(scope="session")
def plan(pytestconfig: pytest.Config) -> Plan:
    return chosen_plan(pytestconfig)


def copies(one: MeasurementDocument) -> list[str]:
    """Return the user copies among the first five symbols of the sender's profile."""
    symbols = [symbol.symbol for symbol in one.profiles["sender"].symbols[:5]]
    return [symbol for symbol in symbols if USER_COPY.search(symbol)]


@pytest.mark.claim("F7")
@pytest.mark.parametrize("send_mode", ["copy", "zerocopy"])
def test_only_a_plain_sender_copies(measured: Measured, plan: Plan, send_mode: str) -> None:
    """The user copy is among the first five symbols of a plain sender, and not of a zerocopy one."""
    if plan.profile_event is None:
        pytest.skip("no profile was asked for: --profile cycles")
    profiled = [one for one in measured.document.measurements if one.phase == "profile"]
    missing = [one.profiles["sender"].unavailable for one in profiled if one.profiles["sender"].unavailable]
    if missing:
        pytest.skip(f"{missing[0]}")
    chosen = [one for one in profiled if one.send_mode == send_mode]
    assert chosen
    for one in chosen:
        assert bool(copies(one)) == (send_mode == "copy"), one.profiles["sender"].symbols[:5]
