# SPDX-License-Identifier: Apache-2.0
"""A lab of network namespaces of this machine: hosts joined by veth pairs, each reached over real SSH.

No SSH server listens anywhere: the client's ProxyCommand, sshd_in_netns.sh, starts one inside the namespace
for its connection, and it ends with that. What a host writes stays its own, and nothing of it is left behind.
"""
