# SPDX-License-Identifier: Apache-2.0
"""Parts of the cache: one directory per key, made once, there whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zclab.base.errors import LabError
from zclab.base.files import GONE, full_disk_named, refuse_mounts, remove_tree
from zclab.base.locks import locked, locked_if_free, shared
from zclab.base.process import removed_if_we_die
from zclab.base.progress import Progress, quiet

_MAKING = ".making-"


@dataclass(frozen=True)
class Store:
    """A part of the cache: `directory` holds its entries, `kind` is what one is called ("kernel source")."""

    directory: Path
    kind: str

    def path(self, key: str) -> Path:
        """Return the directory of a key, whether it is there or not."""
        return self.directory / key

    def _lock(self, key: str, use: str = "") -> Path:
        name = self.kind.replace(" ", "-")
        return self.directory.parent / "locks" / f"{use}{name}-{key}.lock"

    def entries(self) -> list[Path]:
        """Return the directories that are there, by key."""
        return sorted(path for path in self.directory.glob("[!.]*") if path.is_dir())

    def ensure(
        self,
        key: str,
        make: Callable[[Path], object],
        on_progress: Progress = quiet,
        is_whole: Callable[[Path], bool] = Path.is_dir,
    ) -> bool:
        """Have the directory of a key made unless it is there; return whether this call made it.

        `make` fills the empty directory that it is given. Two callers at once make it once. Nothing stays
        behind when `make` raises or this process is killed.

        Raises:
            LabError: the disk ran full, or what `make` raises.
        """
        target = self.path(key)
        if is_whole(target):
            return False
        with locked(self._lock(key), f"{self.kind} {key}", on_progress), full_disk_named(self.directory):
            if is_whole(target):
                return False
            with self._appearing(target) as making:
                make(making)
        return True

    @contextmanager
    def _appearing(self, target: Path) -> Iterator[Path]:
        """Yield an empty directory: it becomes `target` if the block ends well, else it is removed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned(target.name)
        making = Path(tempfile.mkdtemp(prefix=f"{_MAKING}{target.name}-", dir=self.directory))
        with removed_if_we_die(making):
            try:
                making.chmod(0o755)
                yield making
                remove_tree(target)
                making.rename(target)
            finally:
                remove_tree(making)

    def _remove_abandoned(self, held: str) -> None:
        """Remove what a power cut left half made; the caller holds the lock of the key `held`."""
        for gone in self.directory.glob(f"{GONE}*"):
            refuse_mounts(gone)
            shutil.rmtree(gone, ignore_errors=True)
            if gone.exists():
                raise LabError(f"{gone} is left from an earlier zclab and cannot be removed: remove it")
        for left in self.directory.glob(f"{_MAKING}*"):
            key = left.name.removeprefix(_MAKING).rpartition("-")[0]
            if key == held:
                remove_tree(left)
                continue
            with locked_if_free(self._lock(key)) as free:
                if free:
                    remove_tree(left)

    @contextmanager
    def using(self, key: str) -> Iterator[Path]:
        """Keep the directory of a key from being removed within the block; yield it."""
        with shared(self._lock(key, "use-")):
            yield self.path(key)

    def remove(self, key: str) -> bool:
        """Remove the directory of a key unless it is being used or made; return whether it was removed."""
        with locked_if_free(self._lock(key, "use-")) as unused, locked_if_free(self._lock(key)) as idle:
            if unused and idle:
                remove_tree(self.path(key))
            return unused and idle
