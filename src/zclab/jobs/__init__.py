# SPDX-License-Identifier: Apache-2.0
"""Work for the project itself, and jobs of many commands."""
