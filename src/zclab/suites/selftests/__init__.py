# SPDX-License-Identifier: Apache-2.0
"""The kernel's own tests of what zero-copy touches, from the variant's own tree."""
