# SPDX-License-Identifier: Apache-2.0
"""Repeat `make lab` on the other Debian release, in a tree of its own: `python -m zclab.jobs.other_release`.

The tree is made by mmdebstrap from this machine's mirrors; the last commit of this checkout is cloned into
it, and `make lab` is its first command. Everything that runs or is mounted there is in namespaces of its own
and ends with them; the tree is removed at the end, also when this process is interrupted or killed.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zclab.base import program
from zclab.base.environment import SYSTEM_PATH, Environment
from zclab.base.errors import LabError, UsageError
from zclab.base.exit_codes import INTERNAL
from zclab.base.files import remove_tree, require_space
from zclab.base.paths import cache_dir, project_root
from zclab.base.process import privately, removed_if_we_die, require_tools, run, stream
from zclab.base.progress import Progress
from zclab.debian import sources

OTHER = {"bookworm": "trixie", "trixie": "bookworm"}
"""The releases that this project runs on, each with the other one."""

#: What a user has who clones the project: make installs everything else.
PACKAGES = ("ca-certificates", "git", "make", "python3", "python3-venv")
CHECKOUT = "srv/zclab"
# A tree with all packages, a kernel's source and build, an image: measured.
_SPACE_BYTES = 12 * 1024**3

#: Files and directories of this machine that say how the network is reached; those that exist are mounted.
SETTINGS = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs", "/root/.config/pip")

# mmdebstrap and apt want the root that they run in to be a mount point. $1: the tree; then a number of paths
# that are mounted from this machine, and these; then the command.
_ENTER = """
root=$1; count=$2; shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount --bind -o ro /sys "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
while [ "$count" -gt 0 ]; do
    [ ! -L "$root$1" ] || rm "$root$1" # it would lead out of the tree
    mkdir -p "$root${1%/*}"
    if [ -d "$1" ]; then mkdir -p "$root$1"; else [ -e "$root$1" ] || : >"$root$1"; fi
    mount --bind -o ro "$1" "$root$1"
    shift; count=$((count - 1))
done
exec chroot "$root" "$@"
"""
_MAKE_FAILED = re.compile(r"^make: \*\*\* .*\bError (\d+)$")


@contextmanager
def tree(directory: Path) -> Iterator[Path]:
    """Yield an empty directory for a tree, in `directory`; it is gone afterwards, also if we are killed."""
    require_space(directory, _SPACE_BYTES, "a system of another Debian release")
    root = Path(tempfile.mkdtemp(prefix="release-", dir=directory))
    with removed_if_we_die(root):
        try:
            root.chmod(0o755)
            yield root
        finally:
            remove_tree(root)


def install(root: Path, release: str, on_progress: Progress) -> None:
    """Install a Debian release into an empty directory; raise LabError with what mmdebstrap said."""
    require_tools(["mmdebstrap"], "a system of another Debian release")
    source_file = root.with_name(f"{root.name}.sources")
    source_file.write_text(sources.debian_sources(release))
    options = [f"--aptopt={option}" for option in sources.transport_options()]
    command = ["mmdebstrap", "--mode=root", "--variant=apt", "--dpkgopt=force-unsafe-io", *options]
    command += [f"--include={','.join(PACKAGES)}", release, str(root), str(source_file)]
    errors: list[str] = []

    def on_line(line: str) -> None:
        if line.startswith("I: "):
            on_progress(f"{release}: {line[3:]}")
        elif line.startswith("E: "):
            errors.append(line[3:])

    try:
        status = stream(privately(command), on_line, environment={"PATH": SYSTEM_PATH})
    finally:
        source_file.unlink(missing_ok=True)
    if status != 0:
        raise LabError(
            f"Debian {release}: mmdebstrap cannot install it: {(errors or [f'status {status}'])[0]}"
        )


def run_in(root: Path, command: Sequence[str], on_line: Progress, settings: Sequence[str] = SETTINGS) -> int:
    """Run a command as root of a tree and return its exit status; nothing that it started is left.

    settings: paths of this machine that are mounted read-only over those of the tree, where they exist.
    """
    there = [path for path in settings if Path(path).exists()]
    enter = ["sh", "-euc", _ENTER, "sh", str(root), str(len(there)), *there, *command]
    own: Environment = {
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "PATH": SYSTEM_PATH,
        **dict.fromkeys(("TMPDIR", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "ZCLAB_CACHE", "PIP_CACHE_DIR")),
    }
    return stream(privately(enter), on_line, environment=own)


def make_lab(release: str, on_progress: Progress) -> int:
    """Run `make lab` on a release and return the exit code of the lab that it measured.

    Raises:
        UsageError: this user is not root.
        LabError: the release cannot be installed, or the checkout cannot be cloned.
    """
    if os.geteuid() != 0:
        raise UsageError("a system of another Debian release: it is installed and entered by root: use sudo")
    with tree(cache_dir() / "other-release") as root:
        install(root, release, on_progress)
        _clone(root)
        code = 0

        def on_line(line: str) -> None:
            nonlocal code
            if failed := _MAKE_FAILED.match(line):
                code = int(failed[1])
            on_progress(f"{release}: {line}")

        status = run_in(root, ["make", "--directory", f"/{CHECKOUT}", "--no-print-directory", "lab"], on_line)
        # make itself says 2 of each failure.
        return (code or INTERNAL) if status else 0


def _clone(root: Path) -> None:
    # The checkout may be another user's than root's, which git refuses unless a file of settings allows it.
    settings = root / "root" / ".gitconfig"
    settings.write_text("[safe]\n\tdirectory = *\n", encoding="ascii")
    try:
        clone = ["git", "clone", "--quiet", "--no-hardlinks", str(project_root()), str(root / CHECKOUT)]
        run(clone, environment={"GIT_CONFIG_GLOBAL": str(settings)})
    finally:
        settings.unlink()


def main() -> int:
    """Repeat `make lab` on the release that this machine does not run."""
    release = sources.codename()
    if release not in OTHER:
        raise UsageError(f"this machine runs Debian {release}: zclab runs on {' and '.join(sorted(OTHER))}")
    return make_lab(OTHER[release], print)


if __name__ == "__main__":
    sys.exit(program.run("other_release", main))
