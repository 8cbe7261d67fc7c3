# SPDX-License-Identifier: Apache-2.0
"""Conformance: each rule of an interface as one row of a table, tried on a host's running kernel."""
