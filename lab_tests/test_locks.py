# SPDX-License-Identifier: Apache-2.0
"""The order of the socket's lock and the mapping lock, where the kernel watches it."""

from __future__ import annotations

import pytest

from zclab.base.errors import InvalidError
from zclab.lab.model import Lab
from zclab.pytest_plugin import skip_unless_standing
from zclab.suites import lockdep


@pytest.mark.claim("M12", "M13")
def test_locks_are_taken_in_one_order(lab: Lab) -> None:
    """lockdep reports what the kernel's declaration says, and nothing else."""
    if lab.kernel_variant is None:
        pytest.skip("these hosts run this machine's own kernel")
    skip_unless_standing(lab)
    try:
        found = lockdep.carry_out(lab)
    except InvalidError as error:
        pytest.skip(str(error))
    assert found.verdict == "pass", "; ".join(found.unexpected)
