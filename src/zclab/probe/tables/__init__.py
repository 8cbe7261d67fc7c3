# SPDX-License-Identifier: Apache-2.0
"""One table of test cases for each interface."""
