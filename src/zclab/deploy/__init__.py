# SPDX-License-Identifier: Apache-2.0
"""Brings hosts to the declared state: playbooks, bring-up, booting a kernel and going back."""
