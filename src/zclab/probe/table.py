# SPDX-License-Identifier: Apache-2.0
"""The table of an interface: test cases with a setup and an expected outcome, and how one is tried."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from .processes import KILLED_SECONDS, end_with, states, wait_for

CASE_SECONDS = 60.0
#: Signals that end the probe.
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
#: What a test case's packets cross: the loopback interface, a veth pair of its own network namespaces, the
#: pair's data interface to the other host, or nothing, because no connection is made.
Link = Literal["loopback", "veth", "data interface", "none"]
_END = b"\0"
_Resource = TypeVar("_Resource", bound=contextlib.AbstractContextManager[Any])


class NotHereError(Exception):
    """A test case cannot be tried on this host; the text says what is missing."""


class Peer(NamedTuple):
    """A sink on the pair's other host (see sink.py), and this host's interface that has to lead to it."""

    address: str
    port: int
    interface: str


@dataclass(frozen=True)
class Bench:
    """What a test case works with. What it opens is closed when the test case has ended, however it ends.

    `family` is 4 or 6. `peer` is None where there is no other host. `links` is what it has used so far.
    """

    family: int
    peer: Peer | None = None
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    links: set[Link] = field(default_factory=set)

    @property
    def address_family(self) -> socket.AddressFamily:
        """Return AF_INET or AF_INET6."""
        return socket.AF_INET if self.family == 4 else socket.AF_INET6

    @property
    def loopback(self) -> str:
        """Return the loopback address of the family."""
        return "127.0.0.1" if self.family == 4 else "::1"

    def keep(self, resource: _Resource) -> _Resource:
        """Return a resource that is closed with the bench."""
        self.closing.enter_context(resource)
        return resource


@dataclass(frozen=True)
class TestCase:
    """One rule: what is done (`setup`), what comes of it (`expected`).

    `expected` is the outcome, or, where kernels differ, outcomes by the first release that behaves so ("0" is
    every release before). `document` is what the claim's document says, where kernels do something else.
    `link` is what its packets cross; a test case that uses another one fails.
    """

    name: str
    setup: str
    expected: str | Mapping[str, str]
    claims: tuple[str, ...]
    document: str | None
    attempt: Callable[[Bench], str]
    link: Link = "loopback"

    def rule(self, release: str) -> tuple[str | None, str]:
        """Return how a kernel of this release (like "6.1.90-zclab") behaves, and since which release.

        The latter comes first, and is None where all kernels behave so.
        """
        if isinstance(self.expected, str):
            return None, self.expected
        fitting = [first for first in self.expected if _version(first) <= _version(release)]
        since = max(fitting, key=_version)
        return since, self.expected[since]


class Cases(list[TestCase]):
    """The test cases of one subject, in the order of their definition.

    `does` is what carries out steps(): it takes a bench and the steps.
    """

    def __init__(self, does: Callable[..., str] = str) -> None:
        self._does = does
        self._why = ""

    def add(
        self,
        setup: str,
        expected: str | Mapping[str, str],
        claims: str = "",
        document: str | None = None,
        link: Link = "loopback",
    ) -> Callable[[Callable[[Bench], str]], Callable[[Bench], str]]:
        """Make a function the attempt of a test case, which has the function's name, with dashes."""

        def add(attempt: Callable[[Bench], str]) -> Callable[[Bench], str]:
            name = attempt.__name__.replace("_", "-")
            self.append(TestCase(name, setup, expected, tuple(claims.split()), document, attempt, link))
            return attempt

        return add

    def why(self, text: str) -> None:
        """Say what the next steps() or call() shows, as the docstring of a function does."""
        self._why = text

    def steps(self, name: str, *steps: Any, **made: Any) -> Callable[..., None]:
        """Make steps the attempt of a test case; see call()."""
        return self.call(self._does, name, *steps, **made)

    def call(self, shared: Callable[..., str], name: str, *given: Any, **named: Any) -> Callable[..., None]:
        """Make a call of what test cases share, with a bench and what is given, the attempt of one.

        Returns the function that takes the rest of the test case, as add() does.

        Raises:
            ValueError: why() was not called before.
        """
        if not self._why:
            raise ValueError(f"{name}: why() has to say what this test case shows")

        def attempt(bench: Bench) -> str:
            return shared(bench, *given, **named)

        attempt.__doc__, self._why = self._why, ""

        def add(
            setup: str,
            expected: str | Mapping[str, str],
            claims: str = "",
            document: str | None = None,
            link: Link = "loopback",
        ) -> None:
            self.append(TestCase(name, setup, expected, tuple(claims.split()), document, attempt, link))

        return add


@dataclass(frozen=True)
class Table:
    """The test cases of one interface, in the order in which they are tried.

    `around` is entered before the first test case and left after the last: it sets what the interface needs,
    or raises NotHereError where this kernel does not have the interface.

    Raises:
        ValueError: two test cases have one name.
    """

    abi: str
    cases: Sequence[TestCase]
    around: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext

    def __post_init__(self) -> None:
        names = [case.name for case in self.cases]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{self.abi}: two test cases are called {twice[0]}")


def attempt(
    case: TestCase, family: int, peer: Peer | None = None, watched: int | None = None
) -> dict[str, str | None]:
    """Try a test case in a process of its own, within CASE_SECONDS.

    Returns the `outcome`, or None with a `reason` where the test case cannot be tried here. What it
    raises, the signal that kills it, and that it cannot be killed, are outcomes, too.

    Raises:
        SystemExit: the file descriptor `watched` came to its end; the test case was killed.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()
        _stand_alone(parent)
        os.write(writer, _in_child(case, family, peer).encode() + _END)
        os._exit(0)
    os.close(writer)
    try:
        output = _read_all(reader, CASE_SECONDS, watched)
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        status = wait_for(child, KILLED_SECONDS)
    if status is None:  # in the kernel, which may hold it for ever: it is left there
        held = f"could not be killed within {KILLED_SECONDS:.0f} s: {states(child)}"
        return {"outcome": held, "reason": None}
    if output is None:
        return {"outcome": f"did not end within {CASE_SECONDS:.0f} s", "reason": None}
    kind, _, text = output.partition(" ")
    if kind == "not-here":
        return {"outcome": None, "reason": text}
    if kind != "outcome":
        return {"outcome": f"killed by signal {os.WTERMSIG(status)}", "reason": None}
    return {"outcome": text, "reason": None}


def _in_child(case: TestCase, family: int, peer: Peer | None) -> str:
    bench = Bench(family, peer)
    try:
        with bench.closing:
            outcome = case.attempt(bench)
        if (used := " and ".join(sorted(bench.links)) or "none") != case.link:
            return f"outcome {outcome}, but over {used}, not {case.link}"
        return f"outcome {outcome}"
    except NotHereError as reason:
        return f"not-here {reason}"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"outcome {type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"


def _stand_alone(parent: int) -> None:
    """Become a test case's process: default signals, none of the parent's channel, ends with the parent.

    One that cannot be killed would otherwise keep the channel open.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a signal may be the outcome
    end_with(parent)


def _read_all(reader: int, seconds: float, watched: int | None) -> str | None:
    """Return what is written until the end, or None when that takes longer than `seconds`.

    The end has a mark of its own: a process that the test case has started may keep the pipe open.
    """
    got = b""
    while not got.endswith(_END):
        ready, _, _ = select.select([reader] if watched is None else [reader, watched], [], [], seconds)
        if not ready:
            return None
        if watched in ready:
            raise SystemExit("the program that started this probe has ended")
        part = os.read(reader, 65536)
        if not part:
            break
        got += part
    return got.removesuffix(_END).decode()


def _version(release: str) -> tuple[int, ...]:
    numbers = release.split("-")[0].split(".")
    return tuple(int(number) for number in numbers[:2] if number.isdigit())
