# SPDX-License-Identifier: Apache-2.0
"""Drives the hosts through a plan."""
