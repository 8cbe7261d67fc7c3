# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action of the same name, which does the work on the controller."""

DOCUMENTATION = r"""
module: zclab_kernel_artifact
short_description: Build a kernel on the controller, or find it built
description:
  - Takes source, patches and configuration, and returns the artifact that they make, a Debian package stored
    by the hash of everything that went into it. Builds only when there is no such artifact yet.
  - Shows its progress while it builds. Fails with one line that names what is wrong.
  - In check mode it builds nothing; the artifact is then empty if it would have to be built.
options:
  variant:
    description: The name of the kernel.
    type: str
    required: true
  spec:
    description: What the kernel is made from, with the keys source, patches and config.
    type: dict
    required: true
  required:
    description: Drivers that the configuration must have, each with driver, purpose and perhaps host.
    type: list
    elements: dict
    default: []
  host_config:
    description: The running configuration of the host that will boot the kernel, for config base host.
    type: str
    default: ""
author: zclab
"""

EXAMPLES = r"""
- name: Build the kernel
  zclab_kernel_artifact:
    variant: stock
    spec:
      source: {kind: debian, package: linux-source-6.1}
      patches: []
      config: {base: tinyconfig, fragments: [lean-x86, guest, network, userland]}
    required:
      - {driver: e1000e, purpose: NIC, host: receiver1}
  register: result
"""

RETURN = r"""
artifact:
  description: The content of artifact.json, plus the directory that holds it.
  returned: success
  type: dict
zclab_timing:
  description: Parts of the work that was really done, each with part and seconds.
  returned: success
  type: list
"""
