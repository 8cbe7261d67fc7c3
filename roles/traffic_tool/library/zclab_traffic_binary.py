# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action of the same name, which does the work on the controller."""

DOCUMENTATION = r"""
module: zclab_traffic_binary
short_description: Build the traffic tool and put it on a host
description:
  - Builds traffic/ on the controller into the cache, under a key made from its source and the compiler's
    version. A binary that is there already is used as it is.
  - The binary is copied to the host if the host has another one or none.
options:
  dest:
    description: Path on the host.
    type: path
    required: true
author: zclab
"""

EXAMPLES = r"""
- name: Install the traffic tool
  zclab_traffic_binary:
    dest: /usr/local/bin/zclab-traffic
"""

RETURN = r"""
path:
  description: The binary on the controller.
  returned: success
  type: str
sha256:
  description: Its sha256.
  returned: success
  type: str
zclab_timing:
  description: Seconds that compiling took.
  returned: when it was compiled
  type: dict
"""
