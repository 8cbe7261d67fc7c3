# SPDX-License-Identifier: Apache-2.0
"""Stress: random operations on sockets and mappings of a host's running kernel."""
