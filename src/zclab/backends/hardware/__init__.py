# SPDX-License-Identifier: Apache-2.0
"""Hosts that are there already and answer over SSH."""
