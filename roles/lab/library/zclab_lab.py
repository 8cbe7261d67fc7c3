# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action of the same name, which does the work on the controller."""

DOCUMENTATION = r"""
module: zclab_lab
short_description: Read and check the lab that the inventory declares
description:
  - Reads the inventory of the running play, checks it against zclab's model, and returns it with every
    derived value (MTU, MSS, state directory, peers) resolved.
  - Fails with one line that names the file and the key before anything is touched.
options: {}
author: zclab
"""

EXAMPLES = r"""
- name: Read the lab
  zclab_lab:
  register: zclab
"""

RETURN = r"""
name:
  description: The lab's name; beside it is every other key of the resolved lab.
  returned: success
  type: str
"""
