# SPDX-License-Identifier: Apache-2.0
"""Other checks of a kernel."""
