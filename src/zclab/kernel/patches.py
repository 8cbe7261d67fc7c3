# SPDX-License-Identifier: Apache-2.0
"""Patches: from what an inventory names to an ordered list of texts, and onto a tree."""

from __future__ import annotations

import hashlib
import mailbox
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path, PurePosixPath

from zclab.base.errors import LabError, UsageError
from zclab.base.files import write_whole
from zclab.base.paths import kernel_cache, project_root
from zclab.base.process import NO_SPACE, CommandError, require_tools, run
from zclab.kernel.spec import Patch, PatchFile, PatchMbox

# Where the change of one file begins.
_PART = re.compile(rb"^(?=diff --git )", re.MULTILINE)
_PLAIN_PART = re.compile(rb"^(?=--- .+\n\+\+\+ )", re.MULTILINE)
_FILE = re.compile(rb"^(?:---|\+\+\+) [^/\s]+/(\S+)", re.MULTILINE)
# Where the whole change begins; what stands before it is a commit message and does not change the kernel.
_DIFF = re.compile(rb"^(diff --git .+|Index: .+|--- .+\n\+\+\+ .+)$", re.MULTILINE)


@dataclass(frozen=True)
class PatchText:
    """One change: where it came from, in words, and its diff."""

    name: str
    diff: bytes

    @property
    def sha256(self) -> str:
        """Return the hash of the diff, in hexadecimal."""
        return hashlib.sha256(self.diff).hexdigest()

    def only(self, patterns: Sequence[str]) -> PatchText | None:
        """Return the part that changes files of these patterns of paths; None if it changes none of them."""
        split = _PART if _PART.search(self.diff) else _PLAIN_PART
        parts = [part for part in split.split(self.diff) if _touches(part, patterns)]
        return PatchText(self.name, b"".join(parts)) if parts else None


def _touches(part: bytes, patterns: Sequence[str]) -> bool:
    paths = [PurePosixPath(path.decode(errors="replace")) for path in _FILE.findall(part)[:2]]
    return any(path.match(pattern) for path in paths for pattern in patterns)


def resolve(patches: Sequence[Patch]) -> tuple[PatchText, ...]:
    """Return the texts of a list of patches, in order.

    Raises UsageError when an entry names nothing or holds no diff, LabError when a series cannot be fetched.
    """
    return tuple(text for patch in patches for text in _texts(patch))


def apply(tree: Path, patches: Sequence[PatchText], what: str = "") -> None:
    """Apply patches to a tree, or to the files of it that are `what`, exactly: no line of context may differ.

    Raises UsageError that names the first hunk that does not apply. The tree is then half patched: throw it
    away.
    """
    require_tools(["patch"], "applying patches")
    strict = ["--strip=1", "--fuzz=0", "--forward", "--batch", "--no-backup-if-mismatch", "--reject-file=-"]
    for text in patches:
        with tempfile.NamedTemporaryFile(prefix="zclab-", suffix=".patch") as file:
            file.write(text.diff)
            file.flush()
            try:
                run(["patch", *strict, f"--input={file.name}"], cwd=tree)
            except CommandError as error:
                if NO_SPACE in error.output:
                    raise
                misfit = f"does not apply to {what}" if what else "does not apply"
                raise UsageError(
                    f"patch {text.name} {misfit}: {_first_failure(error.output)}: "
                    "rebase it onto the variant's source, or correct the order of patches"
                ) from error


def blamed(patches: Sequence[PatchText], file: str, line: int) -> str | None:
    """Return the patch, and its hunk if that is known, that a line of the patched tree comes from.

    None if no patch touches the file. Later patches may have moved the line: the last one that has it counts.
    """
    touching = [text.name for text in patches if file in dict(_hunks(text))]
    for text in reversed(patches):
        for number, (start, length) in enumerate(dict(_hunks(text)).get(file, []), start=1):
            if start <= line < start + length:
                return f"patch {text.name}, hunk {number}"
    return f"patch {touching[-1]}" if touching else None


def _hunks(text: PatchText) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Yield each file of a patch with its hunks: first line and number of lines in the patched file."""
    for part in re.split(rb"^(?=--- )", text.diff, flags=re.MULTILINE):
        if name := re.search(rb"^\+\+\+ [^/\s]*/(\S+)", part, re.MULTILINE):
            found = re.findall(rb"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", part, re.MULTILINE)
            yield name[1].decode(), [(int(start), int(length or 1)) for start, length in found]


def _first_failure(output: str) -> str:
    """Return where a patch did not fit, as file:line and hunk, from the output of patch(1)."""
    file = ""
    for line in output.splitlines():
        if found := re.match(r"(?:patching|checking) file (.+)", line):
            file = found[1].strip("'")
        elif found := re.match(r"Hunk #(\d+) FAILED at (\d+)", line):
            return f"{file}:{found[2]}: hunk {found[1]} does not match"
        elif found := re.match(r"\|(?:---|\+\+\+) (?:[^/\s]*/)?(\S+)", line):
            file = found[1]
        elif found := re.match(r"The next patch would create the file (\S+),", line):
            return f"{found[1]}: it would create this file, which is there already"
        elif line.startswith("No file to patch"):
            return f"{file}: no such file in the tree"
        elif "previously applied" in line:
            return f"{file}: it is applied already"
        elif line.startswith("patch: ****"):
            return line.removeprefix("patch: ****").strip()
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "patch(1) printed nothing"


def _texts(patch: Patch) -> Iterator[PatchText]:
    if isinstance(patch, PatchFile):
        for path in _files(patch.file):
            yield _text(_shown(path), path.read_bytes())
    elif isinstance(patch, PatchMbox):
        path = _path(patch.mbox)
        if not path.is_file():
            raise UsageError(f"patches: mbox {patch.mbox}: no such file (tried {path})")
        yield from _mailbox_texts(path, _shown(path))
    else:
        yield from _series(patch.message_id, patch.archive)


def _path(name: str) -> Path:
    path = Path(name).expanduser()
    return path if path.is_absolute() else project_root() / "kernel" / "patches" / path


def _shown(path: Path) -> str:
    root = project_root()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _files(name: str) -> list[Path]:
    path = _path(name)
    if path.is_dir():
        found = sorted(entry for entry in path.iterdir() if entry.suffix in (".patch", ".diff"))
    elif path.is_file():
        found = [path]
    else:
        found = sorted(
            entry for entry in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if entry.is_file()
        )
    if not found:
        raise UsageError(f"patches: file {name}: no patch there (tried {path})")
    return found


def _text(name: str, content: bytes) -> PatchText:
    content = content.replace(b"\r\n", b"\n")
    start = _DIFF.search(content)
    if start is None:
        raise UsageError(
            f"patches: {name}: no diff in it: a patch in the form of `git format-patch` is expected"
        )
    if b"\nGIT binary patch\n" in content:
        raise UsageError(f"patches: {name}: a binary change, which cannot be applied: leave it out")
    return PatchText(name, content[start.start() :])


def _mailbox_texts(path: Path, name: str) -> Iterator[PatchText]:
    """Yield the patches of a mailbox in its order, without the messages that hold none (cover letters)."""
    box = mailbox.mbox(path, create=False)
    try:
        bodies = [_body(message_from_bytes(box.get_bytes(key))) for key in box.iterkeys()]
    finally:
        box.close()
    found = 0
    for position, body in enumerate(bodies, start=1):
        if _DIFF.search(body.replace(b"\r\n", b"\n")):
            found += 1
            yield _text(f"{name} message {position}", body)
    if not found:
        raise UsageError(f"patches: mbox {name}: no message in it holds a diff")


def _body(message: Message) -> bytes:
    """Return the text of a mail: the parts that are text, decoded, one after the other."""
    parts = (
        part.get_payload(decode=True) for part in message.walk() if part.get_content_maintype() == "text"
    )
    return b"\n".join(part for part in parts if isinstance(part, bytes))


def _series(message_id: str, archive: str | None) -> Iterator[PatchText]:
    """Yield the series that a message id stands for: fetched once from the net, read anew from an archive."""
    name = f"message {message_id}"
    kept = kernel_cache() / "series" / f"{hashlib.sha256(message_id.encode()).hexdigest()[:32]}.mbox"
    if archive is None and kept.is_file():
        yield from _mailbox_texts(kept, name)
        return
    command = [sys.executable, "-m", "b4.command", "am", "--no-add-trailers", "--no-parent"]
    if archive is not None:
        if not _path(archive).exists():
            raise UsageError(f"patches: archive {archive}: no such mailbox (tried {_path(archive)})")
        command += ["--use-local-mbox", str(_path(archive))]
    with tempfile.TemporaryDirectory(prefix="zclab-") as scratch:
        try:
            run([*command, "--outdir", scratch, "--mbox-name", "series", "--", message_id], cwd=Path(scratch))
        except CommandError as error:
            place = "archive" if archive else "network"
            raise LabError(
                f"patches: message_id {message_id}: b4 cannot get it: check the id and the {place} ({error})"
            ) from error
        boxes = sorted(Path(scratch).glob("*.mbx"))
        if not boxes:
            raise UsageError(
                f"patches: message_id {message_id}: b4 found no patch in that thread: check the id"
            )
        texts = list(_mailbox_texts(boxes[0], name))
        if archive is None:
            write_whole(kept, boxes[0].read_bytes())
    yield from texts
