# SPDX-License-Identifier: Apache-2.0
"""The command line: click and output only."""

from zclab.base.environment import start_again_without_python_settings

# Before another project's libraries are imported: PYTHONPATH goes before this virtual environment's own.
start_again_without_python_settings("zclab")
