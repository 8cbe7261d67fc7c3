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
  release:
    description: Release of the kernel, as C(uname -r) prints it.
    type: str
    required: true
  build_id:
    description: GNU build id of the kernel, in hexadecimal.
    type: str
    required: true
  package:
    description: Path on the controller of the kernel's Debian package.
    type: path
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
    release: 6.1.0-zclab-0123456789
    build_id: 0123456789abcdef0123456789abcdef01234567
    package: /srv/kernels/linux-image-6.1.0-zclab-0123456789.deb
    mark: -zclab-
"""

RETURN = r"""
fallback:
  description: Release that the host falls back to.
  returned: success
  type: str
"""
