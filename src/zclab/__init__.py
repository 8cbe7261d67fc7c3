# SPDX-License-Identifier: Apache-2.0
"""zclab: a network lab that proves TCP zero-copy on two hosts."""
