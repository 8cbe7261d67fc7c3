# SPDX-License-Identifier: Apache-2.0
"""Kernel configurations: a base, fragments over it, and the proof that what was asked for is there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zclab.base.environment import Environment
from zclab.base.errors import InvalidError, LabError, UsageError
from zclab.base.paths import project_root
from zclab.base.process import NO_SPACE, CommandError, run
from zclab.kernel.spec import HostConfigBase, KernelConfig

_SET = re.compile(r'(CONFIG_\w+)=("(?:[^"\\]|\\.)*"|[^\s"#]+)\s*(?:#.*)?')
_UNSET = re.compile(r"# (CONFIG_\w+) is not set")
# Settings that say who built a kernel rather than what it is.
_NOISE = {"CONFIG_LOCALVERSION", "CONFIG_LOCALVERSION_AUTO", "CONFIG_BUILD_SALT"}
# A whole configuration names its distribution's signing keys: this fragment undoes that.
_HOST_FRAGMENT = "from-host"


@dataclass(frozen=True)
class Ask:
    """One line of a fragment: an option, the value wanted ("n" for not set), and where that is written."""

    option: str
    value: str
    place: str


@dataclass(frozen=True)
class ConfigInputs:
    """Everything that a configuration is made from, read and ready."""

    base: str
    base_text: str
    fragments: tuple[tuple[str, str], ...]

    def digest(self) -> str:
        """Return one hash over all of it."""
        whole = hashlib.sha256()
        for part in (self.base, self.base_text, *(text for pair in self.fragments for text in pair)):
            whole.update(f"{len(part)}:{part}".encode())
        return whole.hexdigest()


def read_inputs(config: KernelConfig, host_config: str | None) -> ConfigInputs:
    """Return the texts that a configuration is made from; raise UsageError for a file that is not there.

    `host_config` is the configuration of the receiver that will boot the kernel, wanted when the base is
    "host".
    """
    names = list(config.fragments)
    if config.base in ("tinyconfig", "defconfig"):
        return ConfigInputs(str(config.base), "", _fragments(names))
    if isinstance(config.base, HostConfigBase):
        base_text = _read(config.base.file, "config.base.file")
    else:
        if not host_config:
            raise UsageError(
                "kernel config base host: no running configuration is known: the receiver must be up, with "
                "/proc/config.gz or /boot/config-<release>; or choose another base"
            )
        base_text = host_config
    # A file is a distribution's configuration, too, in most cases.
    return ConfigInputs("file", without_noise(base_text), _fragments([_HOST_FRAGMENT, *names]))


def _fragments(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, _read(name, "config.fragments")) for name in names)


def _read(name: str, key: str) -> str:
    path = Path(name).expanduser()
    if not path.is_absolute():
        configs = project_root() / "kernel" / "configs"
        path = configs / f"{name}.config" if (configs / f"{name}.config").is_file() else configs / name
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise UsageError(f"kernel {key} {name}: {path} cannot be read: {reason}: correct it") from error


def asked(fragments: Sequence[tuple[str, str]]) -> dict[str, Ask]:
    """Return what fragments ask for, a later line over an earlier one; raise UsageError for a bad line."""
    asks: dict[str, Ask] = {}
    for name, text in fragments:
        for number, line in enumerate(text.splitlines(), start=1):
            line = line.strip()
            if found := _UNSET.fullmatch(line):
                asks[found[1]] = Ask(found[1], "n", f"{name}:{number}")
            elif found := _SET.fullmatch(line):
                asks[found[1]] = Ask(found[1], found[2], f"{name}:{number}")
            elif line and (not line.startswith("#") or line.startswith("#CONFIG_")):
                raise UsageError(
                    f"kernel config fragment {name}:{number}: {line[:60]!r} is not an option: "
                    "write CONFIG_NAME=value or # CONFIG_NAME is not set"
                )
    return asks


def asks_for(config: KernelConfig, option: str) -> bool:
    """Return whether the fragments of a configuration set an option to y; UsageError for a missing file."""
    fragments = [(name, _read(name, "config.fragments")) for name in config.fragments]
    ask = asked(fragments).get(option)
    return ask is not None and ask.value == "y"


def values(text: str) -> dict[str, str]:
    """Return the options of a whole configuration that are set, with their values as written."""
    return {found[1]: found[2] for line in text.splitlines() if (found := _SET.fullmatch(line.strip()))}


def without_noise(text: str) -> str:
    """Return the lines of a configuration that say what the kernel is, not who made it, or with what."""
    kept = []
    for line in text.splitlines():
        found = _SET.fullmatch(line) or _UNSET.fullmatch(line)
        if found and found[1] not in _NOISE:
            kept.append(line)
    return "\n".join(kept) + "\n"


def configure(
    tree: Path, out: Path, inputs: ConfigInputs, make: Sequence[str], environment: Environment
) -> str:
    """Write out/.config from the inputs and return its text.

    `make` is the command that runs make for this tree and build directory. Raises InvalidError when an option
    that a fragment asks for is not in the result, UsageError for a line that is not an option, LabError when
    the tree cannot be configured.
    """
    asks = asked(inputs.fragments)
    out.mkdir(exist_ok=True)
    dotconfig = out / ".config"
    try:
        if inputs.base != "file":
            run([*make, inputs.base], cwd=tree, environment=environment)
            text = dotconfig.read_text(encoding="utf-8")
        else:
            text = inputs.base_text
        lines = [_line(ask.option, ask.value) for ask in asks.values()]
        lines += ['CONFIG_LOCALVERSION=""', "# CONFIG_LOCALVERSION_AUTO is not set", 'CONFIG_BUILD_SALT=""']
        dotconfig.write_text(text + "\n" + "\n".join(lines) + "\n", encoding="utf-8")
        run([*make, "olddefconfig"], cwd=tree, environment=environment)
    except CommandError as error:
        if NO_SPACE in error.output:
            raise
        raise LabError(f"kernel config: make cannot configure this source: {error}") from error
    text = dotconfig.read_text(encoding="utf-8")
    _check_survival(tree, asks, values(text))
    return text


def _line(option: str, value: str) -> str:
    return f"# {option} is not set" if value == "n" else f"{option}={value}"


def _check_survival(tree: Path, asks: Mapping[str, Ask], got: Mapping[str, str]) -> None:
    # What undoes a distribution's defaults is not required: other sources may lack some of those options.
    wishes = [ask for ask in asks.values() if not ask.place.startswith(f"{_HOST_FRAGMENT}:")]
    lost = [ask for ask in wishes if got.get(ask.option, "n") != ask.value]
    if not lost:
        return
    ask = lost[0]
    if ask.value == "n":
        reason = "another option selects it"
    elif _is_known(tree, ask.option):
        reason = "what it depends on is not set, or another option decides it"
    else:
        reason = "this kernel source has no such option"
    more = (
        f" (and {len(lost) - 1} more: {', '.join(other.option for other in lost[1:6])})"
        if len(lost) > 1
        else ""
    )
    raise InvalidError(
        f"kernel config fragment {ask.place}: {ask.option}={ask.value} did not survive, it is "
        f"{got.get(ask.option, 'n')}: {reason}{more}: correct the fragment"
    )


def _is_known(tree: Path, option: str) -> bool:
    name = re.escape(option.removeprefix("CONFIG_"))
    definition = re.compile(rf"^\s*(?:menu)?config\s+{name}\s*$", re.MULTILINE)
    files = (path for path in tree.rglob("Kconfig*") if path.is_file())
    return any(definition.search(path.read_text(encoding="utf-8", errors="replace")) for path in files)
