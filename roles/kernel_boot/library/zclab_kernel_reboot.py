# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action of the same name, which does the work on the controller."""

DOCUMENTATION = r"""
module: zclab_kernel_reboot
short_description: Reboot a host and prove which kernel came up
description:
  - Reboots, waits until the host answers from another boot, and compares release and build id with the wanted
    kernel's. If they differ the task fails with the end of the console log, and names the kernel that runs.
  - A host that does not come back is power-cycled once, if a command for that is known, and the task fails.
options:
  release:
    description: Release that must run.
    type: str
    required: true
  build_id:
    description: GNU build id that must run. Empty to compare the release only, without C(promote) and
      C(keep).
    type: str
    default: ""
  mark:
    description: Text in the release of every kernel that the lab made.
    type: str
    required: true
  promote:
    description: Whether the kernel becomes the default.
    type: bool
    default: false
  keep:
    description: How many of the lab's own kernels stay.
    type: int
    default: 2
  console_log:
    description: Path on the controller of the console log of this host.
    type: str
    default: ""
  reset_command:
    description: Command on the controller that power-cycles this host.
    type: str
    default: ""
  timeout:
    description: Seconds until the host must answer.
    type: int
    required: true
author: zclab
"""

EXAMPLES = r"""
- name: Reboot
  zclab_kernel_reboot:
    release: 6.1.0-zclab-0123456789
    build_id: 0123456789abcdef0123456789abcdef01234567
    mark: -zclab-
    timeout: 300
"""

RETURN = r"""
kernel:
  description: Release, build id and boot id of the kernel that runs.
  returned: success
  type: dict
zclab_timing:
  description: Seconds that the boot took.
  returned: success
  type: dict
"""
