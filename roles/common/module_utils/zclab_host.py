# SPDX-License-Identifier: Apache-2.0
"""What modules that change a host share: its files, its commands, what they saved, and how they end."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
REASON_LENGTH = 400
Run = Callable[[list[str]], tuple[int, str, str]]


class RefusedError(Exception):
    """The host cannot do what is asked. The message is one line: thing, place, what to do."""


class Host:
    """The host that a module runs on.

    run: runs a command and returns (status, stdout, stderr). root: another directory than / in tests only.
    """

    def __init__(self, run: Run, root: Path = Path("/")) -> None:
        self.run = run
        self.root = root
        self.name = socket.gethostname()
        self.where = self.name
        self.state_dir = root / "var/lib/zclab"

    def must(self, *command: str) -> str:
        """Run a command and return what it printed.

        Raises:
            RefusedError: it failed.
        """
        status, out, err = self.run(list(command))
        if status != 0:
            reason = " ".join(f"{err} {out}".split())[:REASON_LENGTH] or "it said nothing"
            raise RefusedError(f"{self.where}: {' '.join(command)} failed (status {status}): {reason}")
        return str(out)

    def may(self, *command: str) -> str:
        """Run a command that a host need not support, and return what it printed, "" if it failed."""
        status, out, _ = self.run(list(command))
        return str(out) if status == 0 else ""

    def text(self, path: Path) -> str:
        """Return a file's text, "" if there is no such file."""
        try:
            return path.read_text(encoding="utf-8", errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def boot_id(self) -> str:
        """Return the id of this boot."""
        return self.text(self.root / "proc/sys/kernel/random/boot_id").strip()

    def write(self, path: Path, text: str) -> None:
        """Replace a file as a whole, on the disk before this returns."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise

    # What a module saved before its first change

    def load(self, path: Path) -> dict[str, Any]:
        """Return a saved state, {} if there is none.

        Raises:
            RefusedError: the file is not JSON.
        """
        text = self.text(path)
        if not text:
            return {}
        try:
            document: dict[str, Any] = json.loads(text)
        except ValueError:
            raise RefusedError(f"{self.where}: {path} is not JSON: look at it, then remove it") from None
        return document

    def save(self, path: Path, document: dict[str, Any]) -> None:
        """Write a saved state."""
        self.write(path, json.dumps(document, indent=2, sort_keys=True) + "\n")

    def forget(self, *paths: Path) -> None:
        """Remove saved states, and their directory when nothing else is in it."""
        for path in paths:
            path.unlink(missing_ok=True)
        if self.state_dir.is_dir() and not any(self.state_dir.iterdir()):
            self.state_dir.rmdir()


def build_id(notes: bytes) -> str:
    """Return the GNU build id in ELF notes (as in /sys/kernel/notes), in hexadecimal, "" if there is none."""
    at = 0
    while at + 12 <= len(notes):
        name_size, data_size, kind = (
            int.from_bytes(notes[at + 4 * i : at + 4 * i + 4], "little") for i in range(3)
        )
        name = notes[at + 12 : at + 12 + name_size]
        data_at = at + 12 + (name_size + 3) // 4 * 4
        if kind == 3 and name == b"GNU\0":
            return notes[data_at : data_at + data_size].hex()
        at = data_at + (data_size + 3) // 4 * 4
    return ""


@contextlib.contextmanager
def one_line(module: AnsibleModule, where: str) -> Iterator[None]:
    """End the module with one line when the host refuses, or when a file cannot be read or written."""
    try:
        yield
    except RefusedError as refusal:
        module.fail_json(msg=str(refusal))
    except OSError as error:
        module.fail_json(msg=f"{where}: {error}: free what is in the way and try again")


def exit_changed(
    module: AnsibleModule, changes: list[tuple[str, str, str]], state_file: Path | None = None
) -> None:
    """End the module with its changes, each (what, before, after)."""
    module.exit_json(
        changed=bool(changes),
        state_file=str(state_file) if state_file and state_file.exists() else "",
        **shown([f"{what}: {was} -> {wanted}" for what, was, wanted in changes]),
    )


def shown(changes: list[str]) -> dict[str, Any]:
    """Return a result's changes, and what `--diff` prints of them: one line each."""
    return {"changes": changes, "diff": {"prepared": "".join(f"{line}\n" for line in changes)}}
