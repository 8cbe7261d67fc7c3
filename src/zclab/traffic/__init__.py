# SPDX-License-Identifier: Apache-2.0
"""The traffic tool from outside: its command lines and documents."""
