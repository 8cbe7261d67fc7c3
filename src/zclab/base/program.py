# SPDX-License-Identifier: Apache-2.0
"""A program from its start to its exit code: what its output, a signal or an accident may do to it.

Work must not depend on who reads the output, and no accident may end with the exit code of a verdict.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from zclab.base.errors import ZclabError
from zclab.base.exit_codes import INTERNAL, INTERRUPTED, worst
from zclab.base.paths import cache_dir, project_root
from zclab.base.process import interruptible

_STDIN, _STDOUT, _STDERR = range(3)


class _Output(io.BufferedWriter):
    """stdout or stderr. What cannot be written is dropped: the descriptor leads to /dev/null from then on.

    `lost` is the first error, null if there was none.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(io.FileIO(descriptor, "w", closefd=False))
        self.lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write bytes and return how many were written, or dropped."""
        rest = memoryview(data).cast("B")
        size = rest.nbytes
        while True:
            try:
                super().write(rest)
                return size
            except BlockingIOError as full:
                rest = rest[full.characters_written :]
                self._wait()
            except OSError as error:
                self._drop(error)

    def flush(self) -> None:
        """Write what is buffered."""
        while True:
            try:
                return super().flush()
            except BlockingIOError:
                self._wait()
            except OSError as error:
                self._drop(error)

    def _wait(self) -> None:
        """Wait for room: another program that has the same terminal or pipe has made it non-blocking."""
        select.select([], [self], [])

    def _drop(self, error: OSError) -> None:
        self.lost = self.lost or error
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, self.fileno())
        os.close(null)


def _text(output: _Output) -> IO[str]:
    """Return a text file like Python's own, but in UTF-8 in every locale, each line written at once."""
    return io.TextIOWrapper(output, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _open_closed() -> None:
    """Open a closed stdin, stdout or stderr as /dev/null: it would be the next file that is opened."""
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


@contextlib.contextmanager
def _output() -> Iterator[_Output]:
    """Let nothing that is printed within the block fail, whatever stdout and stderr are; yield stdout."""
    _open_closed()
    out, err = _Output(_STDOUT), _Output(_STDERR)
    old = sys.stdout, sys.stderr
    # A test may have put something else in their place.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(out)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(err)
    try:
        yield out
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = old


def run(name: str, work: Callable[[], int | None]) -> int:
    """Do a program's work and return its exit code; None is 0.

    An error that is meant for people is one line on stderr, with its own exit code. Any other exception is
    one line that says where it came from, and exit code 6. Where stdout cannot be written any more, the work
    goes on: if its reader is gone, the exit code is that of the work; if there is another reason, such as a
    full disk, it is 6.
    """
    with _output() as stdout:
        code = _code_of(name, work)
        sys.stdout.flush()
        if stdout.lost is None or stdout.lost.errno == errno.EPIPE:
            return code
        _say(f"{name}: stdout: {stdout.lost.strerror}: output is missing; without that, exit code {code}")
        return code if code > INTERNAL else worst((code, INTERNAL))


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _code_of(name: str, work: Callable[[], int | None]) -> int:
    try:
        with interruptible():
            return work() or 0
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            _say(str(end.code))
            return INTERNAL
        if (number := (end.code or 0) - 128) in (signal.SIGTERM, signal.SIGHUP):
            _say(f"{name}: ended by {signal.Signals(number).name}")
        return end.code or 0
    except KeyboardInterrupt:
        _say(f"{name}: interrupted")
        return INTERRUPTED
    except ZclabError as error:
        _say(f"{name}: {error}")
        return error.exit_code
    except Exception as error:
        _say(f"{name}: {_accident(error)}")
        return INTERNAL


def _accident(error: Exception) -> str:
    """Return what an exception that nobody expected is, in one line, and where its traceback is kept."""
    if isinstance(error, OSError) and error.filename is not None:
        to_do = ": make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return f"{error.filename}: {error.strerror}{to_do}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(project_root() / "src")]
    place = ""
    if frames:
        last = (own or frames)[-1]
        path = Path(last.filename)
        known = path.relative_to(project_root()) if own else path
        place = f" in {known}:{last.lineno}"
    reason = " ".join(str(error).split())[:200]
    text = "".join(traceback.format_exception(error))
    return f"unexpected {type(error).__name__}{place}{f': {reason}' if reason else ''}: {_kept(text)}"


def _kept(text: str) -> str:
    """Keep a traceback in a file and say in which; print it where there is no room for a file."""
    path = cache_dir() / "traceback.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError:
        _say(text)
        return "its traceback is above"
    return f"its traceback is in {path}"
