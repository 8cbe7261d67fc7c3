# SPDX-License-Identifier: Apache-2.0
"""Who makes the hosts of a lab: one package for each kind."""
