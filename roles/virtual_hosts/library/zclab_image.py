# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action of the same name, which does the work on the controller."""

DOCUMENTATION = r"""
module: zclab_image
short_description: Build the base image of the virtual hosts, or find it built
description:
  - Makes a small Debian system that boots from its own disk, from the apt sources of this machine, and keeps
    it in the cache by the hash of everything that decides what is in it. Builds only when there is no such
    image yet; newer packages behind the same sources do not make a new one.
  - Shows its progress while it builds. Fails with one line that names what is wrong and the log.
options:
  disk_mib:
    description: Size of the guests' disk in MiB. It takes room only as it is written.
    type: int
    required: true
author: zclab
"""

EXAMPLES = r"""
- name: Build the base image
  zclab_image:
    disk_mib: 3072
"""

RETURN = r"""
image:
  description: Path of the qcow2 file. Empty in check mode when it would be built.
  returned: success
  type: str
key:
  description: The hash that names the image.
  returned: success
  type: str
zclab_timing:
  description: Parts of the work that was really done, each with part and seconds.
  returned: success
  type: list
"""
