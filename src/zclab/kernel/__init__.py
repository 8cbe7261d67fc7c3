# SPDX-License-Identifier: Apache-2.0
"""Builds kernel artifacts: source, patches and configuration in, one Debian package out."""
