# SPDX-License-Identifier: Apache-2.0
"""Debian's archive, as this machine reaches it: its sources, and packages of any release by exact name."""
