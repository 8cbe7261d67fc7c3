# SPDX-License-Identifier: Apache-2.0
"""What a lab is: its inventory, read and checked."""
