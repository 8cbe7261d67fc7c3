# SPDX-License-Identifier: Apache-2.0
"""Network namespaces of a test case's own: what is set in them ends with its process."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .libc import check, libc
from .sockets import wait_until
from .table import Bench, NotHereError, Peer

#: Legacy ethtool commands that read one offload; the command that sets it is the next number.
RX_CHECKSUM, TX_CHECKSUM, SCATTER_GATHER = 0x14, 0x16, 0x18

#: Of the near end, and of a neighbour beyond the far end, whose own stack takes no frame for that one.
NEAR_MAC, FAR_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
#: Seconds within which a driver's counters hold what it has sent or received: some update them by a timer.
COUNTER_SECONDS = 3.0

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCETHTOOL = 0x8913, 0x8914, 0x8946
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_IFREQ_FLAGS = struct.Struct("16sH22x")
_IFREQ_POINTER = struct.Struct("16sQ16x")
_RX_BYTES, _TX_BYTES = 0, 8  # their columns in /proc/net/dev
_VALUE = struct.Struct("=II")


class VethLink(NamedTuple):
    """Two network namespaces with a veth pair between them; the test case runs in that of `near`.

    `near_address` is that of `near`, `address` that of what is behind it.
    """

    near: str
    far: str
    near_address: str
    address: str
    far_namespace: int

    def resolve(self) -> None:
        """Tell the near stack which MAC address `address` has; what waits for it is sent."""
        run(
            "ip",
            "neighbour",
            "replace",
            self.address,
            "lladdr",
            FAR_MAC,
            "dev",
            self.near,
            "nud",
            "permanent",
        )

    def unresolve(self) -> None:
        """Have the near stack forget it: packets to `address` wait, and it is asked for."""
        run("ip", "neighbour", "del", self.address, "dev", self.near)

    @contextlib.contextmanager
    def beyond(self) -> Iterator[None]:
        """Enter the other namespace: what is opened meanwhile belongs there."""
        here = _this_namespace()
        _enter(self.far_namespace)
        try:
            yield
        finally:
            _enter(here)
            os.close(here)


def enter_new_netns() -> None:
    """Move this thread to a new network namespace, with its loopback interface up.

    Raises:
        NotHereError: this kernel or user makes no network namespaces.
    """
    if libc.unshare(_CLONE_NEWNET):
        raise NotHereError(f"no network namespace can be made: {os.strerror(ctypes.get_errno())}")
    _ioctl(_SIOCSIFFLAGS, _IFREQ_FLAGS.pack(b"lo", _flags("lo") | _IFF_UP))


def linked(bench: Bench, stack: bool = True) -> VethLink:
    """Make two new network namespaces with a link between them, and move this thread to one of them.

    Without a `stack` the far one has no address: it answers nothing, and resolve() makes up a neighbour.

    Raises:
        NotHereError: the program `ip` or the kernel's veth is missing.
    """
    bench.links.add("veth")
    enter_new_netns()
    far = _this_namespace()
    bench.closing.callback(os.close, far)
    enter_new_netns()
    near_address, far_address, bits = (
        ("192.0.2.1", "192.0.2.2", 24) if bench.family == 4 else ("2001:db8::1", "2001:db8::2", 64)
    )
    link = VethLink("near", "far", near_address, far_address, far)
    run("ip", "link", "add", link.near, "type", "veth", "peer", "name", link.far, "netns", _path(far))
    run("ip", "link", "set", link.near, "address", NEAR_MAC)
    with link.beyond():
        _bring_up(link.far, f"{far_address}/{bits}" if stack else None)
    _bring_up(link.near, f"{near_address}/{bits}")
    wait_until(lambda: bool(_flags(link.near) & _IFF_RUNNING))
    if not stack:
        link.resolve()
    return link


def offload(interface: str, which: int, on: bool | None = None) -> bool:
    """Return whether an offload of an interface is on, after switching it if asked to; raise OSError."""
    if on is not None:
        _ethtool(interface, which + 1, int(on))
    return bool(_ethtool(interface, which, 0))


def run(program: str, *arguments: str) -> str:
    """Run a system program and return what it wrote.

    Raises:
        NotHereError: there is no such program, or it fails: the kernel lacks what it asks for.
    """
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise NotHereError(f"there is no program {program}: install iproute2")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise NotHereError(f"{program} {' '.join(arguments[:2])}: {why}")
    return done.stdout


def needs_device(peer: Peer) -> None:
    """Check that the route to a peer leaves by its interface, a device that takes pages as they are.

    Raises:
        RuntimeError: the route leaves by another interface than the one under test.
        NotHereError: the interface has no device, or none that sends from the program's pages.
    """
    route = run("ip", "-oneline", "route", "get", peer.address).split()
    interface = route[route.index("dev") + 1]
    if interface != peer.interface:
        raise RuntimeError(f"the route to {peer.address} leaves by {interface}, not by {peer.interface}")
    if not _has_device(interface):
        raise NotHereError(
            "the link to the peer has no device of its own: the kernel copies what it loops back"
        )
    if not (offload(interface, SCATTER_GATHER) and offload(interface, TX_CHECKSUM)):
        raise NotHereError(
            "the device to the peer does not gather fragments and compute checksums: "
            "the kernel copies, and says so only sometimes"
        )


def byte_count(interface: str, direction: str) -> int:
    """Return how many bytes an interface has sent ("tx") or received ("rx") so far.

    Raises:
        RuntimeError: this network namespace has no such interface.
    """
    for line in Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines():
        name, colon, counters = line.partition(":")
        if colon and name.strip() == interface:
            return int(counters.split()[_RX_BYTES if direction == "rx" else _TX_BYTES])
    raise RuntimeError(f"there is no interface {interface}")


def await_bytes(interface: str, direction: str, before: int, expected: int) -> int:
    """Return the bytes counted since `before`: as soon as they are `expected`, or after COUNTER_SECONDS."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: byte_count(interface, direction) - before >= expected, COUNTER_SECONDS)
    return byte_count(interface, direction) - before


def _has_device(interface: str) -> bool:
    return Path("/sys/class/net", interface, "device").exists()


def _bring_up(interface: str, address: str | None) -> None:
    if address is not None:
        nodad = ["nodad"] if ":" in address else []
        run("ip", "address", "add", address, "dev", interface, *nodad)
    run("ip", "link", "set", interface, "up")


def _this_namespace() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _path(namespace: int) -> str:
    return f"/proc/{os.getpid()}/fd/{namespace}"


def _enter(namespace: int) -> None:
    check(libc.setns(namespace, _CLONE_NEWNET))


#: Set by who runs the probe on a machine that is its alone: a process in the first network namespace.
FIRST_PROCESS = "ZCLAB_FIRST_PROCESS"


def opened_for_all(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a sysctl that only the first network namespace may show; return the descriptor.

    On kernels before 6.8 net.core.optmem_max is one number for all namespaces, and only the first shows it.

    Raises:
        FileNotFoundError: this namespace does not show it, and FIRST_PROCESS does not say that the machine,
            which others may use, is the probe's alone.
    """
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        if FIRST_PROCESS not in os.environ:
            raise
    process = os.environ[FIRST_PROCESS]
    own, first = _this_namespace(), os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(first)
        return os.open(path, flags)
    finally:
        _enter(own)
        os.close(own)
        os.close(first)


def _ioctl(number: int, request: bytes) -> bytes:
    """Make a request about an interface of this network namespace; return the answer; raise OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control, number, request)


def _flags(interface: str) -> int:
    return int(_IFREQ_FLAGS.unpack(_ioctl(_SIOCGIFFLAGS, _IFREQ_FLAGS.pack(interface.encode(), 0)))[1])


def _ethtool(interface: str, command: int, value: int) -> int:
    data = ctypes.create_string_buffer(_VALUE.pack(command, value), _VALUE.size)
    _ioctl(_SIOCETHTOOL, _IFREQ_POINTER.pack(interface.encode(), ctypes.addressof(data)))
    return int(_VALUE.unpack(data.raw)[1])
