# SPDX-License-Identifier: Apache-2.0
"""A guest of an exact lab that only pretends: it answers each step of a list as a healthy one would."""

from __future__ import annotations

import hashlib
import itertools
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests import factories

from zclab.analysis.declared_state import OFFLOADS
from zclab.backends.exact.emulator import EmulatorFacts, Limits
from zclab.backends.exact.guest import CONSOLE, Execution, Guest
from zclab.backends.exact.instructions import Window
from zclab.backends.exact.steps import Output, Step
from zclab.host.state import sysctl_file
from zclab.lab.link import ipv4_route_mtu
from zclab.lab.model import Host, Lab

EMULATOR = EmulatorFacts(version="QEMU emulator version 7.2.22", options=["-machine pc", "-icount shift=0"])
_NOTES = bytes.fromhex("040000001400000003000000") + b"GNU\0" + bytes.fromhex(factories.BUILD_ID)


def options(command: str) -> dict[str, str]:
    """Return the options of a command line of the traffic tool that have a value, by name."""
    words = shlex.split(command)
    return {name: value for name, value in itertools.pairwise(words) if name.startswith("--")}


class PretendedGuest:
    """Boots guests of a lab; a test changes what they say.

    printed: what processes leave of which nothing is known here, by name. alter: changes what processes left,
    by name, before it is handed out. It also gets the boot's number.
    """

    def __init__(self, lab: Lab, programs: dict[str, str]) -> None:
        self.lab = lab
        self.programs = programs
        self.emulator = EMULATOR
        self.boots: list[tuple[Guest, list[Step]]] = []
        self.directories: list[Path] = []
        self.console = "[    0.100000] Linux\n"
        self.fails: dict[int, BaseException] = {}
        self.alter: Callable[[dict[str, Output], int], None] = lambda outputs, boot: None
        self.idle_ns = [5000, 5000]
        self.windows: list[Window] | None = None
        self.printed: dict[str, Output] = {}

    @staticmethod
    def kernel_of(lab: Lab, variant: str) -> Any:
        """Return an artifact of a kernel: all have one release and build id."""
        of = factories.ARTIFACT
        own = {"variant": variant, "key": of.key, "release": of.release, "build_id": of.build_id}
        own |= {"compiler": "gcc (Debian 12.2.0-14+deb12u1) 12.2.0", "source": "linux-source-6.1 6.1.1-1"}
        return SimpleNamespace(**own)

    def execute(
        self,
        guest: Guest,
        steps: Sequence[Step],
        directory: Path,
        limits: Limits,
        *,
        by_function: bool = False,
    ) -> Execution:
        """Answer each process that is started."""
        assert limits.cpu_seconds < limits.real_seconds
        number = len(self.boots)
        self.boots.append((guest, list(steps)))
        self.directories.append(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / CONSOLE).write_text(self.console, encoding="utf-8")
        if failure := self.fails.pop(number, None):
            raise failure
        outputs = {
            one.name: self._answer(one.name, one.command or "", guest) for one in steps if one.do == "start"
        }
        self.alter(outputs, number)
        printed = json.dumps([one.model_dump() for one in outputs.values()])
        digest = hashlib.sha256(printed.encode()).hexdigest()
        windows = self.windows if by_function else None
        console = directory / CONSOLE
        return Execution(outputs, console, self.emulator, "programs-key", 12.5, digest, windows)

    def _answer(self, name: str, command: str, guest: Guest) -> Output:
        what = name.rpartition("/")[2]
        place, _, rest = name.partition("/")
        if name in self.printed:
            return self.printed[name]
        if name == "look":
            text = self._state(self.lab.pair().receiver, guest, watched=False)
            return Output(status=0, stdout=text, stderr="")
        if name.startswith("setup/"):
            return Output(status=0, stdout="", stderr="")
        if rest == "state" or rest in ("sender", "receiver"):
            host = next(one for one in self.lab.hosts if one.role == (place if rest == "state" else rest))
            return Output(status=0, stdout=self._state(host, guest, watched=rest != "state"), stderr="")
        if rest in ("send", "receive"):
            return self._end(rest, command)
        if "idle" in name:
            return Output(status=0, stdout=f"{self.idle_ns[what == 'after']}\n", stderr="")
        if "machine" in name:
            lines = [f"{sysctl_file(key)}:{value}" for key, value in self.lab.limits.machine_sysctls.items()]
            return Output(status=0, stdout="\n".join(lines), stderr="")
        text = "zclab-traffic 0.1.0\n" if name == "version" else f"driver:{guest.link}\n"
        return Output(status=0, stdout=text, stderr="")

    def _end(self, end: str, command: str) -> Output:
        given = options(command.strip().splitlines()[-1])
        document = factories.traffic_document(end, given["--mode"])
        ports = (5000, 40000) if end == "receive" else (40000, 5000)
        document["addresses"] = {
            "local": given["--bind"],
            "local_port": ports[0],
            "peer": given["--peer"],
            "peer_port": ports[1],
            "ip_version": 6,
        }
        copied = {"copied": document["completions"]["sends"]} if document["completions"] else {}
        document["completions"] = document["completions"] and document["completions"] | copied
        if "--verify" in command:
            document["integrity"] = {
                "checked_bytes": factories.TOTAL_BYTES,
                "mismatch": None,
                "reused_early": 0,
            }
        return Output(status=0, stdout=json.dumps(document), stderr="listening 5000\n" * (end == "receive"))

    def _state(self, host: Host, guest: Guest, *, watched: bool) -> str:
        before = self._once(host, guest, grown=False)
        if not watched:
            return before
        return f"{before}\n@before\n{self._once(host, guest, grown=True)}\n@monitor 0\n@changes\n@end 0\n"

    def _once(self, host: Host, guest: Guest, *, grown: bool) -> str:
        nic = f"/sys/class/net/{host.data_interface}"
        made = factories.snapshot_after if grown else factories.snapshot
        counters = made({"sender": factories.SENDER, "receiver": factories.RECEIVER}[host.role])[
            "link_counters"
        ]
        files = {
            "/proc/sys/kernel/random/boot_id": f"boot-{guest.seed}",
            "/proc/sys/kernel/osrelease": factories.RELEASE,
            "/proc/sys/net/ipv4/tcp_timestamps": "1",
            **{
                sysctl_file(key): value
                for key, value in self.lab.limits.sysctls.items()
                if key not in self.lab.limits.machine_sysctls
            },
            **{f"{nic}/{name}": value for name, value in NIC_FILES.items()},
            **{f"{nic}/statistics/{name}": value for name, value in {**LOSSES, **counters}.items()},
        }
        answers = {
            "grep -Hs . all": "\n".join(f"{file}:{value}" for file, value in files.items()),
            "od -An": _NOTES.hex(" "),
            "ip -o addr": "\n".join(
                f"2: data0 inet{'6' if ':' in one else ''} {one} scope global"
                for one in (host.data_address, host.data_address_ipv4 or "")
            ),
            "tc -s qdisc": "qdisc noqueue 0: root",
            "ethtool -S": "NIC statistics:",
            "ethtool -k": "\n".join(
                ["scatter-gather: on", "tx-checksumming: on"]
                + [f"{OFFLOADS[name]}: {'on' if on else 'off'}" for name, on in host.tuning.offloads.items()]
            ),
            "sed -n /^cpu": "cpu0 5 1 4 40 2 0 3 6 0 0",
            "sed -n -e '/^model": "model name : QEMU TCG CPU version 2.5+",
            "ulimit -l": str(self.lab.limits.locked_memory_kib),
            "sha256sum --": "\n".join(f"{sha}  {path}" for path, sha in self.programs.items()),
        }
        for version in (6, 4):
            own, peer = host.endpoints(version)
            mtu = f" mtu {ipv4_route_mtu(4168)}" if version == 4 else ""
            line = f"ip -o -{version} route get {peer} from {own}"
            answers[line] = f"{peer} from {own} dev data0 src {own}{mtu}"
        return "\n".join(f"@ask {asked}\n{answer}\n@end 0" for asked, answer in answers.items())


NIC_FILES = {"mtu": 4168, "carrier_changes": 2, "operstate": "up", "ifindex": 2}
LOSSES = dict.fromkeys(("rx_missed_errors", "rx_errors", "tx_dropped", "tx_errors", "rx_dropped"), 0)
