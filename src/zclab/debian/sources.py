# SPDX-License-Identifier: Apache-2.0
"""Find, among this machine's apt sources, those that provide Debian itself.

Both formats are read (one line per entry, and deb822 stanzas). What comes out is deb822 text with nothing but
the main component of one release, its updates and its security updates.

Whose a source is, and of which release, its Release file says: apt keeps it, and has checked its signature,
since the last `apt-get update`. Before that, Debian's own keyring or a path such as /debian has to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zclab.base.errors import LabError
from zclab.base.process import run

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
"""The keys of every release that Debian supports, as the package debian-archive-keyring installs them."""

_SUITES = ("", "-updates", "-security")
_DEBIAN_KEYRING = "debian-archive"
_DEBIAN = {"Debian", "Debian-Security"}

Stanza = dict[str, str]


class Machine(NamedTuple):
    """Where a machine keeps apt's settings and lists; tests put others in place of these."""

    etc: Path = Path("/etc")
    lists: Path = Path("/var/lib/apt/lists")


HERE = Machine()


class _Offer(NamedTuple):
    """What a source gives of this machine's release: the stanza, cut down to that, and its suites in full."""

    stanza: Stanza
    suffixes: tuple[str, ...]


def codename(machine: Machine = HERE) -> str:
    """Return the code name of the Debian release that a machine runs; raise LabError on another system."""
    values: dict[str, str] = {}
    try:
        text = (machine.etc / "os-release").read_text()
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        values[key] = value.strip().strip('"')
    name = values.get("PRETTY_NAME", "an unknown system")
    if values.get("ID") != "debian" or not values.get("VERSION_CODENAME"):
        raise LabError(
            f"this machine runs {name}: virtual hosts and kernels are made from the apt sources of a Debian "
            "machine"
        )
    return values["VERSION_CODENAME"]


def debian_sources(suite: str | None = None, machine: Machine = HERE) -> str:
    """Return deb822 text that provides Debian main of a suite, from the mirrors of this machine.

    suite: a release (trixie) with its updates and security updates, or one suite alone (sid,
    trixie-backports); None: this machine's release. Raises LabError when no apt source is Debian's.
    """
    release = codename(machine)
    refused: list[str] = []
    offers = [
        offer
        for stanza in _stanzas(machine.etc / "apt")
        if (offer := _offer(stanza, machine, release, refused))
    ]
    if not any("" in offer.suffixes for offer in offers):
        reason = f" ({'; '.join(refused)})" if refused else ""
        raise LabError(
            f"{machine.etc}/apt/sources.list and sources.list.d name no Debian source for {release} main"
            f"{reason}: add one (Types: deb, Suites, Components: main), and run `apt-get update`: its "
            "Release file then says whose it is"
        )
    wanted = suite or release
    found = [_for_suite(offer, release, wanted) for offer in offers]
    texts = [
        "".join(f"{key}: {value}\n" for key, value in stanza.items()) for stanza in found if stanza["Suites"]
    ]
    return "\n".join(texts)


def transport_options() -> list[str]:
    """Return this machine's apt settings on how archives are reached (proxies, certificates), as apt.conf."""
    try:
        dump = run(["apt-config", "dump", "--format", '%f "%v";%n', "Acquire"])
    except LabError:
        return []
    wanted = re.compile(
        r"Acquire::(https?|ftp)::.*(Proxy|CaInfo|CaPath|Verify|SslCert|SslKey)|Acquire::Retries", re.I
    )
    return [line for line in dump.splitlines() if wanted.match(line) and not line.endswith('"";')]


def _for_suite(offer: _Offer, release: str, wanted: str) -> Stanza:
    """Return the part of a source that is of the wanted suite; its Suites are empty if there is none."""
    if wanted == release:
        return offer.stanza
    alone = "-" in wanted or wanted in ("sid", "unstable", "experimental")
    suffixes = [suffix for suffix in offer.suffixes if not (alone and suffix)]
    stanza = offer.stanza | {"Suites": " ".join(wanted + suffix for suffix in suffixes)}
    # A keyring of one release alone does not hold the key of another.
    signed_by = stanza.get("Signed-By", "")
    if _DEBIAN_KEYRING in signed_by and "\n" not in signed_by:
        stanza["Signed-By"] = KEYRING
    return stanza


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


def _offer(stanza: Stanza, machine: Machine, release: str, refused: list[str]) -> _Offer | None:
    """Return the part of a source that is Debian main of this machine's release, or None.

    refused: gets a reason for each source that has the right suite and is another vendor's.
    """
    if stanza.get("Enabled", "yes").lower() in ("no", "false", "0"):
        return None
    if "deb" not in stanza.get("Types", "").split() or "main" not in stanza.get("Components", "").split():
        return None
    uris, suites, suffixes = [], [], []
    for uri in stanza.get("URIs", "").split():
        for suite in stanza.get("Suites", "").split():
            label = _release_file(uri, suite.rstrip("/"), machine.lists)
            suffix = _suffix(suite.rstrip("/"), label, release)
            if suffix is None:
                continue
            if reason := _not_debian(uri, stanza.get("Signed-By"), label):
                refused.append(re.sub("//[^/@]*@", "//", reason))  # no password in a message
                continue
            # A source that follows "stable" is this machine's release as long as that is what it runs.
            named = release + suffix if suite.startswith("stable") else suite
            uris.append(uri)
            suites.append(named)
            suffixes.append(suffix)
    if not suites:
        return None
    kept = {
        "Types": "deb",
        "URIs": " ".join(dict.fromkeys(uris)),
        "Suites": " ".join(dict.fromkeys(suites)),
        "Components": "main",
    }
    for key in stanza:
        if key not in kept and key not in ("Enabled", "X-Repolib-Name"):
            kept[key] = stanza[key]
    return _Offer(kept, tuple(dict.fromkeys(suffixes)))


def _suffix(suite: str, label: Stanza, release: str) -> str | None:
    """Return what follows the release in a suite's name ("", "-updates", "-security"), None for others."""
    names = [label["Codename"]] if label.get("Codename") else [suite]
    if not label:
        names.append(re.sub("^stable(?=-|$)", release, suite))
    return next((suffix for name in names for suffix in _SUITES if name == release + suffix), None)


def _release_file(uri: str, suite: str, lists: Path) -> Stanza:
    """Return the fields of the Release file that apt has stored for a source, empty if there is none."""
    place = re.sub(r"^[a-z0-9+]+:(//)?([^/@]*@)?", "", uri.rstrip("/")) + f"/dists/{suite}/"
    # As apt names its files.
    name = "".join(f"%{ord(c):02x}" if c in '\\|{}[]<>"^~_=!@#$%^&*' else c for c in place).replace("/", "_")
    for kind in ("InRelease", "Release"):
        try:
            with (lists / f"{name}{kind}").open(encoding="utf-8", errors="replace") as file:
                head = file.read(4096)
        except OSError:
            continue
        fields = re.findall(r"^(Origin|Label|Suite|Codename): *(.*?)\s*$", head, re.MULTILINE)
        if fields:
            return dict(fields)
    return {}


def _not_debian(uri: str, signed_by: str | None, label: Stanza) -> str:
    """Tell a Debian archive ("") from another vendor's that uses the same names; return how that is known."""
    if uri.startswith("cdrom:"):
        return f"{uri} is a disc"
    if label:
        if _DEBIAN & {label.get("Origin", ""), label.get("Label", "")}:
            return ""
        return f"{uri} is not Debian's: its Release file says Origin {label.get('Origin', '')!r}"
    if signed_by is not None:
        return "" if _DEBIAN_KEYRING in signed_by else f"{uri} is signed by another key than Debian's"
    path = uri.partition("://")[2].partition("/")[2]
    is_debian = any(part.startswith("debian") for part in path.split("/"))
    return "" if is_debian else f"{uri} has no path /debian"
