# SPDX-License-Identifier: Apache-2.0
"""What runs on the hosts: Python's standard library and nothing else."""
