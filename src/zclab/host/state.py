# SPDX-License-Identifier: Apache-2.0
"""The state of a host around a measurement: the command that reads it, and what its answer says.

One command per host and measurement: it starts `ip monitor`, reads the state, waits for a line on its
standard input, reads the state again, and says what the monitor saw meanwhile. An emulated host pays for
every program that is started, so most is read by one grep.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from zclab.host import programs
from zclab.host.snapshot import CpuTicks, Route, Snapshot, SoftNetTotals
from zclab.host.ssh import Process, Remote, RemoteError
from zclab.lab.model import Host, Lab

#: What a login that is not root's lacks in its PATH, and messages that can be parsed.
PREAMBLE = "PATH=$PATH:/usr/sbin:/sbin LC_ALL=C; export PATH LC_ALL"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_RELEASE = "/proc/sys/kernel/osrelease"
_TIMESTAMPS = "/proc/sys/net/ipv4/tcp_timestamps"
_SOFTNET = "/proc/net/softnet_stat"
_NETSTAT = "/proc/net/netstat"
_ZEROCOPY = "/proc/net/tcp_zerocopy"
_ONLINE = "/sys/devices/system/cpu/online"
_VENDOR = "/sys/class/dmi/id/sys_vendor"
_CLOCKS = "/sys/devices/system/clocksource/clocksource0/available_clocksource"
#: Recorded beside the sysctls that a lab declares: it moves every figure.
_CONGESTION_CONTROL = "net.ipv4.tcp_congestion_control"
#: Packets that an interface lost. rx_dropped is none of them: it also counts frames that no protocol wants.
#: Of rx_errors those of length are taken off: e1000e counts each frame below 64 bytes so, and takes it all
#: the same (an emulated sender does not pad its ARP). A long frame that was lost is sent again: that counts.
_LOSS_COUNTERS = ("rx_missed_errors", "rx_errors", "tx_dropped", "tx_errors")
#: A receive queue's own count of packets that it dropped, as drivers name it for `ethtool -S`.
_QUEUE_DROPS = re.compile(r"rx_?(queue)?_?\d+_?(packet_)?drop(s|ped)?")
#: Causes for which TCP drops segments that were meant for it, by their names in /proc/net/netstat.
_TCP_DROPS = (
    *("TCPBacklogDrop", "TCPRcvQDrop", "TCPOFODrop", "TCPZeroWindowDrop", "PFMemallocDrop"),
    *("RcvPruned", "OfoPruned", "TCPReqQFullDrop", "ListenDrops"),
)
#: What a NIC needs to send pages from where they are. Without either, Linux copies each segment into linear
#: memory below the socket, and its completions admit that only sometimes.
_ZEROCOPY_OFFLOADS = ("scatter-gather", "tx-checksumming")
_GNU_BUILD_ID_TYPE = 3
_MONITOR = "ip monitor"
#: The line that a watch prints when it has read the state for the first time.
BEFORE = "@before"
#: Limits of seconds, not expectations: an answer of a host, and the end of what it printed.
_ANSWER_SECONDS = 20.0
# The file is gone as soon as it is open: nothing stays behind, however the command ends. The monitor has
# printed all that happened when its socket's queue is empty and it sleeps.
_WATCH = """
{preamble}
{functions}
monitor_socket() {{
  while read -r _ protocol owner _ queued _ _ _ drops _; do
    [ "$protocol $owner" = "0 $monitor" ] && return
  done </proc/net/netlink
  return 1
}}
monitor=
trap 'kill $monitor 2>/dev/null; rm -f "$file"' EXIT
trap 'exit 1' HUP INT PIPE TERM
file=$(mktemp -t zclab-watch.XXXXXX) && exec 3<"$file" 4>"$file" || exit 1
rm -f "$file"
ip -o monitor link address route >&4 2>&1 </dev/null 3<&- 4<&- &
monitor=$!
until monitor_socket || ! kill -0 $monitor 2>/dev/null; do sleep 0.01; done
state
echo @before
read -r _
state
while monitor_socket; do
  if [ "$queued" = 0 ]; then
    read -r _ _ asleep _ </proc/$monitor/stat
    [ "$asleep" = S ] && break
  fi
  sleep 0.01
done
monitor_socket && echo "@monitor $drops" || echo @nomonitor
echo @changes
cat <&3
echo @end $?
"""


class Answer(NamedTuple):
    """What one command on a host printed, line by line, and its exit status (null if it was cut off)."""

    lines: list[str]
    status: int | None


def build_id(notes: bytes) -> str | None:
    """Return the GNU build id in ELF notes such as /sys/kernel/notes, in hex (elf(5), section Notes)."""
    offset = 0
    while offset + 12 <= len(notes):
        name_size, data_size, kind = (
            int.from_bytes(notes[offset + at : offset + at + 4], "little") for at in (0, 4, 8)
        )
        name_start = offset + 12
        data_start = name_start + (name_size + 3) // 4 * 4
        if kind == _GNU_BUILD_ID_TYPE and notes[name_start : name_start + name_size] == b"GNU\0":
            return notes[data_start : data_start + data_size].hex()
        offset = data_start + (data_size + 3) // 4 * 4
    return None


# ------------------------------------------------------------------------------------------- what is asked


def sysctl_file(key: str) -> str:
    """Return the file of a sysctl."""
    return f"/proc/sys/{key.replace('.', '/')}"


def declared_sysctls(lab: Lab) -> list[str]:
    """Return the names of the sysctls that a lab declares anything of."""
    return sorted({*lab.limits.sysctls, *lab.limits.machine_sysctls})


def _peers(host: Host) -> dict[str, tuple[str, str]]:
    """Return the host's own address and the peer's, by IP version."""
    pairs = [(host.ip, host.peer_address)]
    if host.data_address_ipv4 and host.peer_address_ipv4:
        pairs.append((host.data_address_ipv4.partition("/")[0], host.peer_address_ipv4))
    return {"6" if ":" in peer else "4": (own, peer) for own, peer in pairs}


def _route_command(version: str, own: str, peer: str) -> str:
    return f"ip -o -{version} route get {peer} from {own}"


def _state_functions(host: Host, lab: Lab, paths: Iterable[str]) -> str:
    """Return shell functions of which `state` prints a host's state: each command, its output, its status.

    paths: of the programs whose sha256 is read.
    """
    name = shlex.quote(host.data_interface)
    directory = f"/sys/class/net/{name}"
    files = [
        *(_BOOT_ID, _RELEASE, _TIMESTAMPS, _SOFTNET, _NETSTAT, _ZEROCOPY, _ONLINE, _VENDOR, _CLOCKS),
        *(sysctl_file(key) for key in [*declared_sysctls(lab), _CONGESTION_CONTROL]),
        *(f"{directory}/{file}" for file in ("mtu", "carrier_changes", "operstate", "speed", "ifindex")),
        f"{directory}/device/uevent",
        f"{directory}/statistics/*",
        f"{directory}/queues/rx-*/rps_cpus",
    ]
    commands = [
        f"grep -Hs . {' '.join(files)}",
        "od -An -v -tx1 /sys/kernel/notes",
        f"ip -o addr show dev {name}",
        *(_route_command(version, *ends) for version, ends in _peers(host).items()),
        f"tc -s qdisc show dev {name}",
        f"ethtool -S {name}",
        f"ethtool -k {name}",
        *([f"ethtool -c {name}"] if host.tuning.coalescing else []),
        "sed -n /^cpu/p /proc/stat",
        "sed -n -e '/^model name/{p;q}' /proc/cpuinfo",
        "ulimit -l",
        programs.command(paths),
    ]
    asked = "\n".join(f"  ask {shlex.quote(command)}" for command in commands)
    return f'ask() {{ echo "@ask $1"; eval "$1" 2>&1; echo "@end $?"; }}\nstate() {{\n{asked}\n}}'


# --------------------------------------------------------------------------------------- what was answered


def _answers(text: str) -> dict[str, Answer]:
    """Return what each command answered, by its line."""
    found: dict[str, Answer] = {}
    command, lines = "", list[str]()
    for line in text.splitlines():
        if line.startswith("@ask "):
            command, lines = line.removeprefix("@ask "), []
            found[command] = Answer(lines, None)
        elif line.startswith("@end ") and command:
            found[command] = Answer(lines, int(line.removeprefix("@end ")))
            command = ""
        else:
            lines.append(line)
    return found


def _counters(lines: list[str]) -> dict[str, int]:
    """Return what `ethtool -S` shows."""
    matches = (re.match(r"\s*(\S+?): (\d+)$", line) for line in lines)
    return {match[1]: int(match[2]) for match in matches if match}


def _features(lines: list[str], declared: Iterable[str]) -> dict[str, bool]:
    """Return what `ethtool -k` shows, of the lines that belong to others the declared ones only."""
    matches = (re.match(r"(\s*)([\w.-]+): (on|off)\b", line) for line in lines)
    found = [match for match in matches if match and (not match[1] or match[2] in declared)]
    return {match[2]: match[3] == "on" for match in found}


def parse_coalescing(lines: list[str]) -> dict[str, int | bool]:
    """Return what `ethtool -c` shows, by the names of `ethtool -C`."""
    found: dict[str, int | bool] = {}
    for line in lines:
        if adaptive := re.match(r"Adaptive RX: (\S+)\s+TX: (\S+)", line):
            values = {"adaptive-rx": adaptive[1], "adaptive-tx": adaptive[2]}
            found |= {name: value == "on" for name, value in values.items() if value in ("on", "off")}
        elif match := re.match(r"([\w-]+):\s+(\d+)\s*$", line):
            found[match[1]] = int(match[2])
    return found


def _route(lines: list[str]) -> Route:
    words = " ".join(lines).split()
    after = dict(itertools.pairwise(words))
    mtu = re.search(r"\bmtu (\d+)", " ".join(words))
    source = after.get("src") or after.get("from")
    return Route(device=after.get("dev"), source=source, mtu=int(mtu[1]) if mtu else None)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def cpu_list(text: str) -> list[int]:
    """Return the numbers in a list of CPUs as the kernel writes it: 0-3,8."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def cpu_mask(text: str) -> list[int]:
    """Return the numbers in a mask of CPUs as the kernel writes it: 00000000,00000003."""
    mask = int(text.replace(",", ""), 16)
    return [cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1]


def _cpus(lines: list[str]) -> dict[int, CpuTicks]:
    """Return each CPU of /proc/stat (proc(5)): user nice system idle iowait irq softirq steal."""
    found = {}
    for line in lines:
        match = re.match(r"cpu(\d+) (.+)", line)
        if match:
            user, nice, system, idle, iowait, irq, softirq, steal = map(int, match[2].split()[:8])
            busy = user + nice + system + irq + softirq
            found[int(match[1])] = CpuTicks(busy=busy, softirq=softirq, steal=steal, idle=idle + iowait)
    return found


def _softnet(lines: list[str]) -> SoftNetTotals:
    """Return the sums over CPUs of softnet_stat's columns 1 to 3 and 10 (net/core/net-procfs.c)."""
    rows = [[int(word, 16) for word in line.split()] for line in lines]
    processed, dropped, squeezed, received_rps = (sum(row[at] for row in rows) for at in (0, 1, 2, 9))
    return SoftNetTotals(processed=processed, dropped=dropped, squeezed=squeezed, received_rps=received_rps)


def _tcp_drops(lines: list[str]) -> dict[str, int]:
    """Return the causes among _TCP_DROPS that this kernel counts; a line of names precedes one of values."""
    found: dict[str, int] = {}
    for names, values in itertools.pairwise(lines):
        if names.startswith("TcpExt: ") and values.startswith("TcpExt: "):
            pairs = zip(names.split()[1:], values.split()[1:], strict=True)
            found |= {name: int(value) for name, value in pairs if name in _TCP_DROPS}
    return found


def mapped_bytes(lines: list[str]) -> int | None:
    """Return the sum of mapped bytes in /proc/net/tcp_zerocopy (lines "way fate bytes"); null of no line."""
    words = [line.split() for line in lines]
    counts = [int(word[2]) for word in words if len(word) == 3 and word[1] == "mapped"]
    return sum(counts) if counts else None


def _emulated(vendor: str | None, clocks: str | None, model: list[str]) -> bool | None:
    """Return whether QEMU's TCG executes a host.

    Its default processor says so by name. With another name it is QEMU without KVM's clock, which KVM always
    offers to a Linux guest that was built for it.
    """
    if any("QEMU TCG" in line for line in model):
        return True
    if vendor is not None and clocks is not None and vendor == "QEMU":
        return "kvm-clock" not in clocks.split()
    return False if model or vendor is not None else None


def _missing(answer: Answer, features: dict[str, bool]) -> list[str] | None:
    if answer.status != 0:
        return None
    return [name for name in _ZEROCOPY_OFFLOADS if not features.get(name)]


def machine_command(lab: Lab) -> str:
    """Return the command that prints the sysctls which a lab declares of the machine of its namespaces."""
    files = [sysctl_file(key) for key in sorted(lab.limits.machine_sysctls)]
    return f"grep -Hs . {' '.join(files)}" if files else ":"


def parse_machine(text: str, lab: Lab) -> dict[str, str]:
    """Return the sysctls in what `machine_command` printed, without those that there are none of."""
    shown = {line.partition(":")[0]: line.partition(":")[2] for line in text.splitlines()}
    values = {key: shown.get(sysctl_file(key)) for key in lab.limits.machine_sysctls}
    return {key: " ".join(value.split()) for key, value in values.items() if value is not None}


def _machine_here(lab: Lab) -> dict[str, str]:
    """Return those sysctls of this machine, where its namespaces are the hosts."""
    if not lab.traits.one_machine or lab.traits.one_guest:
        return {}
    paths = {key: Path(sysctl_file(key)) for key in lab.limits.machine_sysctls}
    return {
        key: " ".join(path.read_text(encoding="ascii").split())
        for key, path in paths.items()
        if path.is_file()
    }


def _sysctls(lab: Lab, files: dict[str, list[str]], machine: Mapping[str, str]) -> dict[str, str]:
    """Return the sysctls that were asked for, without those that there are none of.

    machine: what the machine has of those that its namespaces do not show: it holds for them.
    """
    found = {}
    for key in [*declared_sysctls(lab), _CONGESTION_CONTROL]:
        shown = files.get(sysctl_file(key))
        value = " ".join(shown[0].split()) if shown else machine.get(key)
        if value is not None:
            found[key] = value
    return found


def parse(text: str, host: Host, lab: Lab, machine: Mapping[str, str] | None = None) -> Snapshot:
    """Return the state in what `state` printed on a host.

    machine: what `parse_machine` gave; null: read here, where this machine is that of the hosts.

    Raises:
        RemoteError: it lacks a value without which nothing can be judged.
    """
    name = shlex.quote(host.data_interface)
    directory = f"/sys/class/net/{host.data_interface}"
    answers = _answers(text)
    none = Answer([], None)

    def answer(command: str) -> Answer:
        return next((one for asked, one in answers.items() if asked.startswith(command)), none)

    files: dict[str, list[str]] = {}
    for line in answer("grep ").lines:
        file, _, value = line.partition(":")
        files.setdefault(file, []).append(value.strip())
    statistics = {
        file.rpartition("/")[2]: int(values[0])
        for file, values in files.items()
        if file.startswith(f"{directory}/statistics/") and values[0].lstrip("-").isdigit()
    }
    unknown = {
        command: (one.lines or ["no answer"])[-1].strip()
        for command, one in answers.items()
        if one.status != 0 and not command.startswith(("grep ", "sha256sum "))
    }
    counters = _counters(answer("ethtool -S").lines)
    features = _features(answer("ethtool -k").lines, host.tuning.offloads)
    routes = {
        version: _route(found.lines)
        for version, ends in _peers(host).items()
        if (found := answer(_route_command(version, *ends))).status == 0
    }
    qdiscs = answer("tc ")
    dropped = sum(int(count) for count in re.findall(r"\(dropped (\d+),", "\n".join(qdiscs.lines)))
    steering = {
        file.split("/")[-2]: cpu_mask(values[0])
        for file, values in files.items()
        if file.startswith(f"{directory}/queues/")
    }
    locked = (answer("ulimit").lines or [""])[0].strip()
    speed = files.get(f"{directory}/speed", [""])[0]
    driver = [line for line in files.get(f"{directory}/device/uevent", []) if line.startswith("DRIVER=")]
    stat = answer("sed -n /^cpu")
    try:
        return Snapshot(
            boot_id=files[_BOOT_ID][0],
            kernel_release=files[_RELEASE][0],
            kernel_build_id=build_id(bytes.fromhex("".join(answer("od ").lines))),
            mtu=int(files[f"{directory}/mtu"][0]),
            tcp_timestamps=int(files[_TIMESTAMPS][0]),
            addresses=[
                match[1]
                for line in answer("ip -o addr").lines
                if (match := re.search(r"\binet6?\s+(\S+/\d+)", line)) is not None
            ],
            drops=sum(statistics[counter] for counter in _LOSS_COUNTERS)
            - statistics.get("rx_length_errors", 0)
            + sum(value for counter, value in counters.items() if _QUEUE_DROPS.fullmatch(counter))
            + dropped,
            header_split=counters.get("rx_header_split"),
            missing_offloads=_missing(answer("ethtool -k"), features),
            carrier_changes=int(files[f"{directory}/carrier_changes"][0]),
            nic_counters=counters,
            route_mtu_ipv4=routes["4"].mtu if "4" in routes and host.peer_address_ipv4 else None,
            routes=routes,
            link_counters=statistics,
            operstate=files.get(f"{directory}/operstate", [None])[0],
            speed_mbps=_number(speed),
            driver=driver[0].removeprefix("DRIVER=") if driver else None,
            ifindex=int(files[f"{directory}/ifindex"][0]),
            queueing=re.findall(r"^qdisc (\S+)", "\n".join(qdiscs.lines), re.MULTILINE)
            if qdiscs.status == 0
            else None,
            offloads=features if answer("ethtool -k").status == 0 else None,
            queues=len(steering) or None,
            coalescing=parse_coalescing(answer(f"ethtool -c {name}").lines) or None,
            receive_cpus=steering or None,
            sysctls=_sysctls(lab, files, _machine_here(lab) if machine is None else machine),
            locked_memory_kib="unlimited"
            if locked == "unlimited"
            else int(locked)
            if locked.isdigit()
            else None,
            online_cpus=cpu_list(files[_ONLINE][0]) if _ONLINE in files else None,
            cpus=_cpus(stat.lines) if stat.status == 0 else None,
            softnet=_softnet(files[_SOFTNET]) if _SOFTNET in files else None,
            tcp_drops=_tcp_drops(files.get(_NETSTAT, [])),
            emulated=_emulated(
                files.get(_VENDOR, [None])[0], files.get(_CLOCKS, [None])[0], answer("sed -n -e").lines
            ),
            unknown=unknown,
            programs=programs.parse(answer("sha256sum ").lines),
            mapped_bytes=mapped_bytes(files.get(_ZEROCOPY, [])),
        )
    except (KeyError, IndexError, ValueError) as error:
        raise RemoteError(
            f"{host.name}: cannot read the state of {host.data_interface} ({error}): is the interface there?"
        ) from None


# ----------------------------------------------------------------------------------------------- from a host


def concerns(line: str, host: Host) -> bool:
    """Say whether a line of `ip -o monitor` is of the host's data interface, data addresses or peer."""
    words = line.removeprefix("Deleted ").split()
    if re.match(r"\d+:$", (words or [""])[0]):
        if len(words) < 4 or words[1].rstrip(":").partition("@")[0] != host.data_interface:
            return False
        return words[2] not in ("inet", "inet6") or words[3] in (host.data_address, host.data_address_ipv4)
    while words and words[0] in ("unicast", "local", "blackhole", "unreachable", "prohibit", "throw"):
        words = words[1:]
    try:
        network = ipaddress.ip_network((words or [""])[0], strict=False)
    except ValueError:
        return False
    return any(ipaddress.ip_address(peer) in network for _, peer in _peers(host).values())


def watch_command(host: Host, lab: Lab, paths: Iterable[str] = ()) -> str:
    """Return the command that reads a host's state, prints @before, and after a line on its input reads on.

    paths: of the programs whose sha256 is read.
    """
    return _WATCH.format(preamble=PREAMBLE, functions=_state_functions(host, lab, paths))


def snapshot_command(host: Host, lab: Lab, paths: Iterable[str] = ()) -> str:
    """Return the command that reads a host's state once; `parse` returns it."""
    return f"{PREAMBLE}\n{_state_functions(host, lab, paths)}\nstate"


def parse_after(text: str, host: Host, lab: Lab, machine: Mapping[str, str] | None = None) -> Snapshot:
    """Return the state and the changes meanwhile that a watch printed after @before; raises as `parse`."""
    state, _, changes = text.partition("@changes\n")
    snapshot = parse(state, host, lab, machine)
    lost = re.search(r"^@monitor (\d+)$", state, re.MULTILINE)
    lines = changes.splitlines()
    if lost is None or not lines or not lines[-1].startswith("@end "):
        said = next((line for line in lines if not line.startswith("@end ")), "no answer")
        return snapshot.model_copy(update={"unknown": {**snapshot.unknown, _MONITOR: said}})
    found = [" ".join(line.split()) for line in lines[:-1] if concerns(line, host)]
    return snapshot.model_copy(update={"changes": found, "changes_lost": int(lost[1])})


class Watch:
    """A host's state before a measurement, all changes of its link meanwhile, and its state afterwards."""

    def __init__(self, remote: Remote, host: Host, lab: Lab, paths: Iterable[str] = ()) -> None:
        self._host = host
        self._lab = lab
        self._process: Process = remote.start(watch_command(host, lab, paths))

    def before(self) -> Snapshot:
        """Return the state at the start; RemoteError if the host is gone or its answer lacks a value."""
        lines: list[str] = []
        for line in self._process.lines(_ANSWER_SECONDS):
            if line == BEFORE:
                return parse("\n".join(lines), self._host, self._lab)
            lines.append(line)
        said = self._process.wait(_ANSWER_SECONDS).stderr.strip()
        raise RemoteError(f"{self._host.name}: cannot read its state: {said or 'no message'}")

    def finish(self) -> None:
        """Have the host read its state again; RemoteError if it is gone."""
        self._process.send(b"\n")

    def after(self) -> Snapshot:
        """Return the state after `finish`, with the changes meanwhile; RemoteError as `before`."""
        text = self._process.wait(_ANSWER_SECONDS).stdout.partition(f"\n{BEFORE}\n")[2]
        return parse_after(text, self._host, self._lab)

    def close(self) -> None:
        """End the watch; its monitor ends with it."""
        self._process.close()


def snapshot(
    remotes: dict[str, Remote], hosts: list[Host], lab: Lab, paths: Iterable[str] = ()
) -> dict[str, Snapshot]:
    """Return the state of several hosts, read at the same time; of the programs at `paths` the sha256.

    Raises:
        RemoteError: a host is gone, or its answer lacks a value.
    """
    started = [(host, remotes[host.name].start(snapshot_command(host, lab, paths))) for host in hosts]
    return {host.name: parse(process.wait(_ANSWER_SECONDS).stdout, host, lab) for host, process in started}
