# SPDX-License-Identifier: Apache-2.0
"""Random operations on sockets and mappings of this host."""
