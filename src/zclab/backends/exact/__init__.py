# SPDX-License-Identifier: Apache-2.0
"""The exact lab: one guest with one clock that counts instructions, both ends in network namespaces of it."""
