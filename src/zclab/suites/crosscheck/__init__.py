# SPDX-License-Identifier: Apache-2.0
"""The same link measured by other tools, in turn with zclab's own: does it lose anything to them?"""
