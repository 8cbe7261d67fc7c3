# SPDX-License-Identifier: Apache-2.0
"""The lab of a command, or of a plan, that names none."""

#: Two hosts: what shows that a kernel is deployed and booted and a host tuned.
TWO_HOSTS = "virtual"
#: One guest with one clock: what tests a kernel and needs no second host.
ONE_GUEST = "exact"
#: The same with NICs on its link, for what only a link with a device of its own shows.
ONE_GUEST_WITH_NICS = "exact-e1000e"
