# SPDX-License-Identifier: Apache-2.0
"""Reads GRUB's menu (grub.cfg) and its environment (grubenv): text in, values out, nothing is changed."""

from __future__ import annotations

import re
import shlex

# A word of GRUB's script: quoted parts and others, without white space between them.
_WORD = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])+""")
_COMMENT = r"\s*(?:#.*)?$"
_SET_DEFAULT = re.compile(r"""^\s*set\s+default=(?:"([^"]*)"|'([^']*)'|([^\s"'#;]+))""", re.MULTILINE)
READ_ONLY_FILESYSTEMS = frozenset(
    {"btrfs", "cpiofs", "f2fs", "iso9660", "nilfs2", "romfs", "squash4", "tarfs", "zfs"}
)


class Entry:
    """One line of the boot menu.

    path: the identifiers that lead to it (submenus first), each one an id, or a title where there is no id.
    kernel: the release whose vmlinuz it loads, "" for a submenu or another system.
    """

    def __init__(self, path: tuple[str, ...], title: str) -> None:
        self.path = path
        self.title = title
        self.kernel = ""
        self.arguments: list[str] = []
        self.children: list[Entry] = []

    @property
    def spec(self) -> str:
        """The name by which GRUB finds exactly this entry (saved_entry, next_entry)."""
        return ">".join(self.path)

    @property
    def recovery(self) -> bool:
        """Whether it boots to a rescue shell, which answers nobody."""
        return bool({"single", "recovery"} & set(self.arguments))

    def all(self) -> list[Entry]:
        """This entry and everything below it, in menu order."""
        return [self, *(inner for child in self.children for inner in child.all())]


def _identifier(words: list[str], title: str) -> str:
    """The id among the words of a menuentry line: `$menuentry_id_option ID`, `--id ID` or `--id=ID`."""
    for position, word in enumerate(words):
        if word in ("$menuentry_id_option", "--id") and position + 1 < len(words):
            return words[position + 1]
        if word.startswith("--id="):
            return word[len("--id=") :]
    return title


def _words(line: str) -> list[str]:
    """Return the words of a line, without quotes, up to a comment. Raises ValueError for an open quote."""
    words: list[str] = []
    end = 0
    for match in _WORD.finditer(line):
        if line[end : match.start()].strip():
            break
        if match.group().startswith("#"):
            return words
        words.append(shlex.split(match.group())[0])
        end = match.end()
    if line[end:].strip():
        raise ValueError("a quote is not closed")
    return words


def parse_menu(text: str) -> list[Entry]:
    """Return the top level of the menu that grub.cfg describes, in order (submenus hold their entries).

    Raises:
        ValueError: the title of an entry has a quote that is not closed; names the line.
    """
    top: list[Entry] = []
    # One element an open brace: the entry that it belongs to, or None for a function or a group.
    open_blocks: list[Entry | None] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        current = next((block for block in reversed(open_blocks) if block is not None), None)
        if re.match(r"(menuentry|submenu)\s", line):
            try:
                words = _words(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            if not words[-1].endswith("{"):
                continue
            title = words[1]
            path = (*(current.path if current else ()), _identifier(words[2:], title))
            entry = Entry(path, title)
            (current.children if current else top).append(entry)
            open_blocks.append(entry)
        elif re.search(r"(?:^|[^$])\{" + _COMMENT, line) and not line.startswith("#"):
            open_blocks.append(None)
        elif re.match(r"\}" + _COMMENT, line):
            if open_blocks:
                open_blocks.pop()
        elif current is not None and not current.kernel and re.match(r"linux(16|efi)?\s", line):
            words = line.split()
            image = words[1].rpartition("/")[2] if len(words) > 1 else ""
            if image.startswith("vmlinuz-"):
                current.kernel = image[len("vmlinuz-") :]
                current.arguments = words[2:]
    return top


def entries(menu: list[Entry]) -> list[Entry]:
    """Return every entry of the menu that loads a Linux kernel, in menu order."""
    return [entry for top in menu for entry in top.all() if entry.kernel]


def find_entry(menu: list[Entry], release: str) -> Entry | None:
    """Return the entry that boots exactly this release, or None.

    The release is compared with the name of the image that the entry loads, never matched: 6.6.0 is not
    6.6.0-rc2. The top-level "simple" entry is no candidate: it stands for whichever kernel is newest.
    """
    for entry in entries(menu):
        if (
            entry.kernel == release
            and not entry.recovery
            and not entry.path[-1].startswith("gnulinux-simple")
        ):
            return entry
    return None


def parse_environment(text: str) -> dict[str, str]:
    """Return the variables of a GRUB environment block."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def _defaults(text: str) -> list[str]:
    """Return what grub.cfg sets as the default, in the order of its lines."""
    return [match.group(match.lastindex or 0) for match in _SET_DEFAULT.finditer(text)]


def default_value(text: str, environment: dict[str, str]) -> str:
    """Return the name or number of the entry that grub.cfg boots when nothing is asked for once."""
    for value in _defaults(text):
        if "next_entry" in value:
            continue
        if "saved_entry" in value:
            return environment.get("saved_entry") or "0"
        return value
    return "0"


def uses_saved_default(text: str) -> bool:
    """Whether grub.cfg boots the saved entry, and so obeys a changed environment."""
    return bool({"$saved_entry", "${saved_entry}"} & set(_defaults(text)))


def resolve(menu: list[Entry], value: str) -> Entry | None:
    """Return the entry that GRUB boots for a default of `value` ("0", "1>2", ids or titles), or None."""
    level: list[Entry] = menu
    found: Entry | None = None
    for part in value.split(">"):
        named = next((entry for entry in level if part in (entry.path[-1], entry.title)), None)
        if named is None and part.isdigit() and int(part) < len(level):
            named = level[int(part)]
        if named is None:
            return None
        found, level = named, named.children
    while found is not None and not found.kernel and found.children:
        found = found.children[0]
    return found


def environment_problem(abstraction: str, filesystem: str) -> str:
    """Say why GRUB cannot write its environment, "" if it can.

    abstraction, filesystem: what `grub-probe --target=abstraction` and `--target=fs` print for /boot/grub.
    GRUB writes grubenv in place, by block number, so that it needs a plain partition and a filesystem that
    overwrites in place.
    """
    layers = abstraction.split()
    if layers:
        return f"it lies on {' and '.join(layers)}, where GRUB only reads"
    if filesystem.strip() in READ_ONLY_FILESYSTEMS:
        return f"its filesystem is {filesystem.strip()}, where GRUB only reads"
    if not filesystem.strip():
        return "grub-probe does not know its filesystem"
    return ""
