# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action of the same name, which does the work on the controller."""

DOCUMENTATION = r"""
module: zclab_kernel_install
short_description: Bring a kernel to a host and ask for one boot of it
description:
  - Reads the package on the controller, lets C(zclab_kernel) refuse the host before anything is changed,
    copies the package if the host lacks it, and lets C(zclab_kernel) install it and ask GRUB for one boot.
    It does not reboot.
options:
  artifact:
    description: The kernel's artifact - release, build_id, deb, directory.
    type: dict
    required: true
  mark:
    description: Text in the release of every kernel that the lab made.
    type: str
    required: true
author: zclab
"""

EXAMPLES = r"""
- name: Ask for one boot
  zclab_kernel_install:
    artifact: "{{ kernel_boot_artifact }}"
    mark: "{{ kernel_boot_mark }}"
"""

RETURN = r"""
fallback:
  description: Release that the host falls back to.
  returned: success
  type: str
"""
