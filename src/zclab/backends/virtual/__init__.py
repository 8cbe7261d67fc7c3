# SPDX-License-Identifier: Apache-2.0
"""Virtual hosts: the base image, the accelerator, the keys and the emulators of a lab on this machine."""
