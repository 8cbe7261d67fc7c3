# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action of the same name, which does the work on the controller."""

DOCUMENTATION = r"""
module: zclab_virtual_hosts
short_description: Bring the virtual hosts of a lab up or down
description:
  - Up means that each host runs as declared and lets the lab's key in over SSH. A host that runs so already
    is left alone, one that died is started again, one that is declared otherwise by now is restarted.
  - KVM runs the hosts where a probe has seen it run a guest, else they are emulated; which of the two and why
    is shown and returned.
options:
  state:
    description: Whether the hosts run, do not run, or do not run and lose their disks and keys.
    type: str
    choices: [up, down, absent]
    default: up
  state_dir:
    description: Directory of the lab's disks, keys and sockets.
    type: path
    required: true
  hosts:
    description: The hosts, each with name, pair, role, nic_model and perhaps ssh_port. For C(up).
    type: list
    elements: dict
    default: []
  memory_mib:
    description: Memory of each host in MiB. For C(up).
    type: int
  cpus:
    description: Processors of each host. For C(up).
    type: int
  disk_mib:
    description: Size of each host's disk in MiB. For C(up).
    type: int
  count_instructions:
    description: Whether the hosts' clocks count instructions.
    type: bool
    default: false
author: zclab
"""

EXAMPLES = r"""
- name: Take the hosts down
  zclab_virtual_hosts:
    state: down
    state_dir: /srv/lab/.zclab/mylab
"""

RETURN = r"""
changes:
  description: What was done, or would be in check mode, one line each.
  returned: success
  type: list
hosts:
  description: Each host with name, running, pid and ssh_port.
  returned: success
  type: list
accelerator:
  description: What runs the hosts, kvm or tcg (emulation).
  returned: state is up
  type: str
emulated:
  description: Whether the hosts' processors are emulated.
  returned: state is up
  type: bool
reason:
  description: Why that accelerator was chosen.
  returned: state is up
  type: str
zclab_timing:
  description: Parts of the work that was really done, each with part and seconds.
  returned: success
  type: list
"""
