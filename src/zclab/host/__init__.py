# SPDX-License-Identifier: Apache-2.0
"""One host from outside: SSH, keys, facts, snapshot, console."""
