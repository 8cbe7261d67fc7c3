# SPDX-License-Identifier: Apache-2.0
"""Find, among this machine's apt sources, those that provide Debian itself.

Both formats are read (one line per entry, and deb822 stanzas). What comes out is deb822 text with nothing but
the main component of the machine's own release, its updates and its security updates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from zclab.base.errors import LabError

ETC = Path("/etc")
_SUITES = ("", "-updates", "-security")
_DEBIAN_KEYRING = "debian-archive"

Stanza = dict[str, str]


def codename(etc: Path = ETC) -> str:
    """Return the code name of the Debian release that this machine runs; raise LabError on another system."""
    values: dict[str, str] = {}
    try:
        text = (etc / "os-release").read_text()
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        values[key] = value.strip().strip('"')
    name = values.get("PRETTY_NAME", "an unknown system")
    if values.get("ID") != "debian" or not values.get("VERSION_CODENAME"):
        raise LabError(
            f"this machine runs {name}: virtual hosts are made from the apt sources of a Debian machine"
        )
    return values["VERSION_CODENAME"]


def debian_sources(etc: Path = ETC) -> str:
    """Return deb822 text that provides Debian main for this machine's release.

    Raises LabError when /etc/apt names no such source.
    """
    release = codename(etc)
    found = [kept for stanza in _stanzas(etc / "apt") if (kept := _debian_part(stanza, release))]
    if not any(release in stanza["Suites"].split() for stanza in found):
        raise LabError(
            f"{etc}/apt/sources.list and sources.list.d name no Debian source for {release} main: add one "
            "(Types: deb, Suites, Components: main)"
        )
    return "\n".join("".join(f"{key}: {value}\n" for key, value in stanza.items()) for stanza in found)


def _stanzas(apt: Path) -> Iterator[Stanza]:
    parts = sorted((apt / "sources.list.d").glob("*")) if (apt / "sources.list.d").is_dir() else []
    for path in [apt / "sources.list", *parts]:
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        if path.suffix == ".list":
            yield from _from_lines(text)
        elif path.suffix == ".sources":
            yield from _from_deb822(text)


def _from_deb822(text: str) -> Iterator[Stanza]:
    for block in re.split(r"\n[ \t]*\n", text):
        stanza: Stanza = {}
        key = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t"):
                if key:
                    stanza[key] += "\n" + line.rstrip()
                continue
            name, colon, value = line.partition(":")
            if colon:
                key = name.strip().title()
                stanza[key] = value.strip()
        if stanza:
            yield {"URIs" if name == "Uris" else name: value for name, value in stanza.items()}


def _from_lines(text: str) -> Iterator[Stanza]:
    for line in text.splitlines():
        entry = re.match(r"\s*deb\s+(?:\[(?P<options>[^]]*)\]\s*)?(?P<rest>[^#]*)", line)
        if entry is None:
            continue
        words = entry["rest"].split()
        if len(words) < 3:
            continue
        stanza = {"Types": "deb", "URIs": words[0], "Suites": words[1], "Components": " ".join(words[2:])}
        for option in (entry["options"] or "").split():
            key, _, value = option.partition("=")
            name = {"arch": "Architectures", "lang": "Languages"}.get(key.lower(), key.title())
            stanza[name] = value.replace(",", " ")
        yield stanza


def _debian_part(stanza: Stanza, release: str) -> Stanza | None:
    """Return the part of a source that is Debian main of this release, or None."""
    if stanza.get("Enabled", "yes").lower() in ("no", "false", "0"):
        return None
    if "deb" not in stanza.get("Types", "").split() or "main" not in stanza.get("Components", "").split():
        return None
    wanted = [base + suffix for base in (release, "stable") for suffix in _SUITES]
    suites = [suite for suite in stanza.get("Suites", "").split() if suite.rstrip("/") in wanted]
    uris = [uri for uri in stanza.get("URIs", "").split() if _may_be_debian(uri, stanza.get("Signed-By"))]
    if not suites or not uris:
        return None
    # A source that follows "stable" is this machine's release as long as that is what the machine runs.
    suites = [
        release + suite.removeprefix("stable") if suite.startswith("stable") else suite for suite in suites
    ]
    kept = {"Types": "deb", "URIs": " ".join(uris), "Suites": " ".join(suites), "Components": "main"}
    for key in stanza:
        if key not in kept and key not in ("Enabled", "X-Repolib-Name"):
            kept[key] = stanza[key]
    return kept


def _may_be_debian(uri: str, signed_by: str | None) -> bool:
    """Tell a Debian archive from another vendor's that uses the same suite and component names."""
    if uri.startswith("cdrom:"):
        return False
    if signed_by is not None:
        return _DEBIAN_KEYRING in signed_by
    path = uri.partition("://")[2].partition("/")[2]
    return any(part.startswith("debian") for part in path.split("/"))
