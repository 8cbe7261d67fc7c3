# SPDX-License-Identifier: Apache-2.0
"""Plumbing that knows nothing of labs: errors, paths, models, files, locks, processes."""
