# SPDX-License-Identifier: Apache-2.0
"""Runs on the host, with the standard library only: sent over the channel that its command has."""
