# SPDX-License-Identifier: Apache-2.0
"""Errors that are meant for people: one line, the thing, the place, and what to do."""


class ZclabError(Exception):
    """A failure that the command line prints as one line and turns into its exit code."""

    exit_code = 6


class UsageError(ZclabError):
    """The inventory, a plan or a command line says something impossible."""

    exit_code = 2


class InvalidError(ZclabError):
    """What was to be measured is not what ran."""

    exit_code = 4


class LabError(ZclabError):
    """The lab could not be brought up, or a host of it could not be reached."""

    exit_code = 5
