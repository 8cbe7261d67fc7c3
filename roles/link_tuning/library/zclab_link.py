#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""One network interface as declared: MTU, offloads, queues, rings, coalescing, address, IPv4 route MTU.

Its options are the variables of the role. `tuned` reads the interface, changes only what differs, and reads
it again to see that it holds. Before its first change it saves the whole state of the interface in
/var/lib/zclab/link-NAME.json; later changes do not touch that file. None of these settings survives a reboot,
so a file from an earlier boot (or of an interface that was made anew since) says nothing any more, and the
state of this boot replaces it. `restored` puts exactly the saved state back and removes the file.

Returns `changes`, one line each, and `state_file`, the path of the saved state ("" if there is none).
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from ansible.module_utils import zclab_host
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.zclab_host import RefusedError

# Parts of `ip -j route show` that name a route, and their words for `ip route change`.
ROUTE_OPTIONS = {
    "gateway": "via",
    "protocol": "proto",
    "scope": "scope",
    "prefsrc": "src",
    "metric": "metric",
}
PAGE_BYTES = 4096
IPV4_OVERHEAD_BYTES = 20 + 20 + 12  # IP, TCP, TCP timestamps
OFFLOAD_NAMES = {
    "rx": "rx-checksumming",
    "tx": "tx-checksumming",
    "sg": "scatter-gather",
    "tso": "tcp-segmentation-offload",
    "ufo": "udp-fragmentation-offload",
    "gso": "generic-segmentation-offload",
    "gro": "generic-receive-offload",
    "lro": "large-receive-offload",
    "rxvlan": "rx-vlan-offload",
    "txvlan": "tx-vlan-offload",
    "ntuple": "ntuple-filters",
    "rxhash": "receive-hashing",
}
#: A change: what, its value before and after, and the command that makes it.
Step = tuple[str, str, str, list[str]]
RING_NAMES = {"rx": "RX", "rx-mini": "RX Mini", "rx-jumbo": "RX Jumbo", "tx": "TX"}


def whole_page_ipv4_mtu(mtu: int) -> int | None:
    """Return the largest MTU up to `mtu` whose IPv4 segments carry whole pages, None if there is none."""
    pages = (mtu - IPV4_OVERHEAD_BYTES) // PAGE_BYTES
    return pages * PAGE_BYTES + IPV4_OVERHEAD_BYTES if pages > 0 else None


def parse_features(text: str) -> dict[str, dict[str, Any]]:
    """Return what `ethtool -k` prints: {name: {on, wanted, fixed, group}}.

    wanted: what was asked for, where something else hinders it ("[requested on]"). group: the line stands for
    the indented lines below it, which are the switches.
    """
    features: dict[str, dict[str, Any]] = {}
    above = ""
    for line in text.splitlines():
        match = re.match(r"(\t?)([\w.-]+): (on|off)(.*)$", line)
        if not match:
            continue
        indent, name, value, rest = match.groups()
        asked = re.search(r"requested (on|off)", rest)
        features[name] = {
            "on": value == "on",
            "wanted": (asked.group(1) if asked else value) == "on",
            "fixed": "[fixed]" in rest,
            "group": False,
        }
        if indent and above:
            features[above]["group"] = True
        elif not indent:
            above = name
    return features


def parse_channels(text: str) -> dict[str, dict[str, int]]:
    """Return what `ethtool -l` prints: {"maximum": {...}, "current": {...}}, channels by lower-case name."""
    found: dict[str, dict[str, int]] = {"maximum": {}, "current": {}}
    part = "maximum"
    for line in text.splitlines():
        if line.startswith("Current hardware settings"):
            part = "current"
        name, _, value = line.partition(":")
        if value.strip().isdigit():
            found[part][name.strip().lower()] = int(value)
    return found


def parse_coalescing(text: str) -> dict[str, int | bool]:
    """Return what `ethtool -c` prints by the names of `ethtool -C`, without what a driver does not have."""
    found: dict[str, int | bool] = {}
    for line in text.splitlines():
        adaptive = re.match(r"Adaptive RX: (\S+)\s+TX: (\S+)", line)
        if adaptive:
            values = {"adaptive-rx": adaptive.group(1), "adaptive-tx": adaptive.group(2)}
            found.update({name: value == "on" for name, value in values.items() if value in ("on", "off")})
            continue
        match = re.match(r"([\w-]+):\s+(\S+)", line)
        if match and match.group(2).isdigit():
            found[match.group(1)] = int(match.group(2))
        elif match and match.group(2) in ("on", "off"):
            found[match.group(1)] = match.group(2) == "on"
    return found


def parse_rings(text: str) -> dict[str, int]:
    """Return the current sizes that `ethtool -g` prints, by the names of `ethtool -G`."""
    names = {shown: name for name, shown in RING_NAMES.items()}
    current = text.partition("Current hardware settings")[2]
    pairs = (line.partition(":") for line in current.splitlines())
    return {
        names[name.strip()]: int(value)
        for name, _, value in pairs
        if name.strip() in names and value.strip().isdigit()
    }


def cpu_mask(mask: int) -> str:
    """Return a CPU mask as the kernel writes it: groups of 32 bits, in hex."""
    groups = []
    while mask or not groups:
        groups.append(mask & 0xFFFFFFFF)
        mask >>= 32
    return ",".join([f"{groups[-1]:x}", *(f"{group:08x}" for group in reversed(groups[:-1]))])


def word(value: Any) -> str:
    """Return a value as ethtool takes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def as_switch(value: Any, name: str) -> bool:
    """Return an offload's declared value.

    Raises:
        RefusedError: it is neither true nor false.
    """
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("on", "true", "yes"):
        return True
    if str(value).lower() in ("off", "false", "no"):
        return False
    raise RefusedError(f"offload {name}: {value!r} is neither true nor false: correct the lab's tuning")


def offload_changes(
    declared: dict[str, Any], features: dict[str, dict[str, Any]], where: str
) -> dict[str, bool]:
    """Return the offloads that differ from what is declared, by the names that `ethtool -k` prints.

    Raises:
        RefusedError: the driver does not know one, or does not let it change.
    """
    changes = {}
    for name, value in declared.items():
        shown, wanted = OFFLOAD_NAMES.get(name, name), as_switch(value, name)
        if shown not in features:
            raise RefusedError(
                f"{where}: it has no offload {name}: correct or remove it in the lab's tuning.offloads"
            )
        if features[shown]["on"] == wanted:
            continue
        if features[shown]["fixed"]:
            raise RefusedError(
                f"{where}: its driver fixes offload {name} to {word(not wanted)}: remove {name} from "
                "the lab's tuning.offloads"
            )
        changes[shown] = wanted
    return changes


def queue_words(channels: dict[str, dict[str, int]], wanted: int, where: str) -> list[str]:
    """Return the words for `ethtool -L` that make `wanted` queues, none if it has them.

    Raises:
        RefusedError: the driver has fewer.
    """
    kinds = ["combined"] if channels["maximum"].get("combined") else ["rx", "tx"]
    words = []
    for kind in kinds:
        most = channels["maximum"].get(kind, 0)
        if wanted > most:
            raise RefusedError(
                f"{where}: it has at most {most} {kind} queues, not {wanted}: lower the lab's tuning.queues"
            )
        if channels["current"].get(kind) != wanted:
            words += [kind, str(wanted)]
    return words


class Interface(zclab_host.Host):
    """A network interface of this host."""

    def __init__(self, run: zclab_host.Run, name: str) -> None:
        super().__init__(run)
        self.where = f"{self.name}: {name}"
        self.name = name
        self.state_file = self.state_dir / f"link-{name.replace('/', '_')}.json"

    # What is

    def link(self) -> dict[str, Any]:
        """Return what `ip` says of the interface.

        Raises:
            RefusedError: there is no such interface.
        """
        if not (Path("/sys/class/net") / self.name).exists():
            others = sorted(path.name for path in Path("/sys/class/net").iterdir() if path.name != "lo")
            raise RefusedError(
                f"{self.where}: no such interface (there are: {', '.join(others) or 'none'}): correct the "
                "host's data_interface, or see why its driver did not bring it up"
            )
        found: list[dict[str, Any]] = json.loads(self.must("ip", "-j", "addr", "show", "dev", self.name))
        return found[0]

    @staticmethod
    def addresses(link: dict[str, Any]) -> list[str]:
        """Return the addresses of `link` that somebody set, sorted (link-local ones make themselves)."""
        return sorted(
            str(ipaddress.ip_interface(f"{item['local']}/{item['prefixlen']}"))
            for item in link["addr_info"]
            if item.get("scope") != "link"
        )

    def features(self) -> dict[str, dict[str, Any]]:
        """Return the offloads."""
        return parse_features(self.must("ethtool", "-k", self.name))

    def ipv4_routes(self) -> list[dict[str, Any]]:
        """Return the IPv4 routes through the interface: how `ip route change` names each, and its MTU."""
        routes = []
        for route in json.loads(self.must("ip", "-j", "-4", "route", "show", "dev", self.name) or "[]"):
            words = [str(route["dst"])]
            for key, option in ROUTE_OPTIONS.items():
                if key in route:
                    words += [option, str(route[key])]
            mtu = next((metric["mtu"] for metric in route.get("metrics", []) if "mtu" in metric), None)
            routes.append({"words": words, "mtu": mtu})
        return sorted(routes, key=lambda route: list(route["words"]))

    def snapshot(self) -> dict[str, Any]:
        """Return everything that tuning may change, and how to recognise the interface."""
        link = self.link()
        channels = parse_channels(self.may("ethtool", "-l", self.name))
        return {
            "boot_id": self.boot_id(),
            "ifindex": link["ifindex"],
            "up": "UP" in link["flags"],
            "mtu": link["mtu"],
            "addresses": self.addresses(link),
            "features": {
                name: feature["wanted"]
                for name, feature in self.features().items()
                if not feature["fixed"] and not feature["group"]
            },
            "channels": channels["current"],
            "coalescing": parse_coalescing(self.may("ethtool", "-c", self.name)),
            "rings": parse_rings(self.may("ethtool", "-g", self.name)),
            "routes": self.ipv4_routes(),
            "steering": self.steering(),
        }

    def steering(self) -> dict[str, str]:
        """Return the CPU mask of each receive queue, as the kernel writes it, by the queue's file."""
        files = sorted(Path(f"/sys/class/net/{self.name}/queues").glob("rx-*/rps_cpus"))
        return {str(path): path.read_text(encoding="ascii").strip() for path in files}

    # The saved state

    def saved(self) -> dict[str, Any]:
        """Return the saved state, {} if there is none of this boot and this interface."""
        document = self.load(self.state_file)
        if not document:
            return {}
        index = Path(f"/sys/class/net/{self.name}/ifindex")
        same = index.exists() and int(index.read_text(encoding="ascii")) == document["ifindex"]
        return document if same and document["boot_id"] == self.boot_id() else {}

    # What is wanted against what is

    def steps(self, params: dict[str, Any]) -> list[Step]:
        """Return the differences in the order in which to apply them.

        What makes a driver restart its rings comes first, the address last.
        """
        link = self.link()
        steps: list[Step] = []
        if params["offloads"]:
            for name, wanted in offload_changes(params["offloads"], self.features(), self.where).items():
                command = ["ethtool", "-K", self.name, name, word(wanted)]
                steps.append((f"offload {name}", word(not wanted), word(wanted), command))
        if params["queues"]:
            steps += self._queue_steps(params["queues"])
        if params["rings"]:
            is_now = parse_rings(self.may("ethtool", "-g", self.name))
            steps += self._table_steps("ring", "-G", params["rings"], is_now)
        if params["coalescing"]:
            now = parse_coalescing(self.may("ethtool", "-c", self.name))
            steps += self._table_steps("coalescing", "-C", params["coalescing"], now)
        if params["mtu"] and link["mtu"] != params["mtu"]:
            command = ["ip", "link", "set", "dev", self.name, "mtu", str(params["mtu"])]
            steps.append(("mtu", str(link["mtu"]), str(params["mtu"]), command))
        if "UP" not in link["flags"]:
            steps.append(("link", "down", "up", ["ip", "link", "set", "dev", self.name, "up"]))
        if params["receive_cpus"]:
            steps += self._steering_steps(params["receive_cpus"], any(what == "queues" for what, *_ in steps))
        for address in self.wanted_addresses(params["addresses"]):
            if address not in self.addresses(link):
                steps.append(("address", "absent", address, self._add_address(address)))
        return steps

    def wanted_addresses(self, declared: list[str]) -> list[str]:
        """Return the declared addresses as the kernel shows them."""
        try:
            return [str(ipaddress.ip_interface(address)) for address in declared]
        except ValueError as error:
            raise RefusedError(f"{self.where}: {error}: correct the lab's link or tuning") from None

    def _add_address(self, address: str) -> list[str]:
        # Without duplicate detection the address can be used at once; a lab's addresses are its own.
        extra = ["nodad"] if ":" in address else []
        return ["ip", "addr", "add", address, "dev", self.name, *extra]

    def _steering_steps(self, cpus: list[int], new_queues: bool) -> list[Step]:
        """Return the step that gives every receive queue its mask; queues that are new have none yet."""
        wanted = sum(1 << cpu for cpu in cpus)
        masks = sorted(set(self.steering().values()))
        if not new_queues and all(int(mask.replace(",", ""), 16) == wanted for mask in masks):
            return []
        script = f'for file in /sys/class/net/{self.name}/queues/rx-*/rps_cpus; do echo "$1" >"$file"; done'
        command = ["sh", "-ec", script, "sh", cpu_mask(wanted)]
        return [("receive CPUs", " ".join(masks), cpu_mask(wanted), command)]

    def _queue_steps(self, wanted: int) -> list[Step]:
        text = self.may("ethtool", "-l", self.name)
        if not text:
            queues = list(Path(f"/sys/class/net/{self.name}/queues").glob("rx-*"))
            if len(queues) == wanted:
                return []
            raise RefusedError(
                f"{self.where}: its driver has {len(queues)} queues and cannot change that to {wanted}: "
                "remove queues from the lab's tuning"
            )
        channels = parse_channels(text)
        words = queue_words(channels, wanted, self.where)
        if not words:
            return []
        was = " ".join(f"{kind} {count}" for kind, count in channels["current"].items())
        return [("queues", was, " ".join(words), ["ethtool", "-L", self.name, *words])]

    def _table_steps(
        self, kind: str, option: str, declared: dict[str, Any], now: dict[str, Any]
    ) -> list[Step]:
        steps = []
        for name, value in declared.items():
            if name not in now:
                raise RefusedError(
                    f"{self.where}: its driver has no {kind} setting {name}: remove it from the lab's tuning"
                )
            if word(now[name]) != word(value):
                command = ["ethtool", option, self.name, name, word(value)]
                steps.append((f"{kind} {name}", word(now[name]), word(value), command))
        return steps

    def route_steps(self, mtu: int) -> list[Step]:
        """Return what to change so that IPv4 segments carry whole pages on a link with an MTU for IPv6."""
        wanted = whole_page_ipv4_mtu(mtu)
        if wanted is None or wanted == mtu:
            return []
        steps = []
        for route in self.ipv4_routes():
            if route["mtu"] != wanted:
                was = "that of the link" if route["mtu"] is None else str(route["mtu"])
                command = ["ip", "-4", "route", "change", *self._route_words(route), "mtu", str(wanted)]
                steps.append((f"mtu of route {route['words'][0]}", was, str(wanted), command))
        return steps

    def _route_words(self, route: dict[str, Any]) -> list[str]:
        return [route["words"][0], "dev", self.name, *route["words"][1:]]

    def tune(self, params: dict[str, Any], check_mode: bool) -> list[tuple[str, str, str]]:
        """Make the interface as declared and return the changes as (what, before, after).

        Raises:
            RefusedError: the driver or the host cannot do it. What was changed until then is in the saved
            state.
        """
        steps = self.steps(params)
        mtu = params["mtu"] or int(self.link()["mtu"])
        routes = self.route_steps(mtu)
        for what, _, address, _ in steps:
            if what == "address":
                self._refuse_disabled_ipv6(address)
                self._refuse_foreign_address(address)
        if check_mode or not (steps or routes):
            return [step[:3] for step in [*steps, *routes]]
        if not self.saved():
            self.save(self.state_file, self.snapshot())
        for what, _, wanted, command in steps:
            status, out, err = self.run(command)
            if status != 0:
                reason = " ".join(f"{err} {out}".split()) or f"status {status}"
                raise RefusedError(
                    f"{self.where}: {what} cannot be set to {wanted}: {' '.join(command)}: {reason}: correct "
                    "the lab's link or tuning"
                )
        if steps:
            self._wait_for_carrier(params["carrier_timeout"])
        routes = self.route_steps(mtu)  # a new address has brought its route
        for step in routes:
            self.must(*step[3])
        left = [*self.steps(params), *self.route_steps(mtu)]
        if left:
            what, now, wanted, command = left[0]
            raise RefusedError(
                f"{self.where}: {what} is {now} again after {' '.join(command)}, not {wanted}: another "
                "setting or another program on the host undoes it"
            )
        return [step[:3] for step in [*steps, *routes]]

    def _refuse_disabled_ipv6(self, address: str) -> None:
        if ipaddress.ip_interface(address).version == 4:
            return
        name = f"net/ipv6/conf/{self.name}/disable_ipv6"
        switch = Path("/proc/sys", name)
        if not switch.exists():
            raise RefusedError(
                f"{self.where}: {address} needs IPv6, and its kernel runs without it: remove "
                "ipv6.disable=1 from its command line and reboot, or set the lab's zclab_link.ip_version to 4"
            )
        if switch.read_text(encoding="ascii").strip() != "0":
            raise RefusedError(
                f"{self.where}: {address} needs IPv6, and sysctl {name} is 1: run `sysctl -w {name}=0` "
                "there, and remove what sets it under /etc/sysctl.d"
            )

    def _refuse_foreign_address(self, address: str) -> None:
        wanted = ipaddress.ip_interface(address).ip
        for link in json.loads(self.must("ip", "-j", "addr", "show")):
            for item in link["addr_info"]:
                if link["ifname"] != self.name and ipaddress.ip_address(item["local"]) == wanted:
                    raise RefusedError(
                        f"{self.where}: {wanted} is an address of {link['ifname']} already: correct the "
                        "host's data_interface or data_address"
                    )

    def _wait_for_carrier(self, seconds: int) -> None:
        deadline = time.monotonic() + seconds
        carrier = Path(f"/sys/class/net/{self.name}/carrier")
        while carrier.read_text(encoding="ascii").strip() != "1":
            if time.monotonic() > deadline:
                raise RefusedError(
                    f"{self.where}: no link after {seconds} s: see its cable, or bring up its peer first"
                )
            time.sleep(0.1)

    def restore(self, check_mode: bool) -> list[tuple[str, str, str]]:
        """Put the saved state back and return the changes as (what, before, after).

        Raises:
            RefusedError: something did not go back; the saved state is kept.
        """
        before = self.saved()
        if not before:
            if not check_mode:
                # Of an earlier boot, if it is there at all: the reboot has put everything back.
                self.forget(self.state_file)
            return []
        now = self.snapshot()
        changes = [
            (key, str(now[key]), str(before[key])) for key in sorted(before) if now[key] != before[key]
        ]
        if check_mode:
            return changes
        self._put_back(before, now)
        after = self.snapshot()
        wrong = [key for key in before if after[key] != before[key]]
        if wrong:
            key = wrong[0]
            raise RefusedError(
                f"{self.where}: {key} is {after[key]} and did not go back to {before[key]}: set it by hand, "
                f"then remove {self.state_file}"
            )
        self.forget(self.state_file)
        return changes

    def _put_back(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        for address in now["addresses"]:
            if address not in before["addresses"]:
                self.must("ip", "addr", "del", address, "dev", self.name)
        for part, option in (("features", "-K"), ("channels", "-L"), ("rings", "-G"), ("coalescing", "-C")):
            words = [
                text
                for name, value in before[part].items()
                if now[part].get(name) != value
                for text in (name, word(value))
            ]
            if words:
                self.must("ethtool", option, self.name, *words)
        if now["mtu"] != before["mtu"]:
            self.must("ip", "link", "set", "dev", self.name, "mtu", str(before["mtu"]))
        if now["up"] != before["up"]:
            self.must("ip", "link", "set", "dev", self.name, "up" if before["up"] else "down")
        for file, mask in before["steering"].items():
            if self.steering().get(file) not in (None, mask):
                Path(file).write_text(mask, encoding="ascii")
        for address in before["addresses"]:
            if address not in self.addresses(self.link()):
                self.must(*self._add_address(address))
        current = {tuple(route["words"]): route["mtu"] for route in self.ipv4_routes()}
        for route in before["routes"]:
            words = tuple(route["words"])
            if words in current and current[words] == route["mtu"]:
                continue
            verb = "change" if words in current else "add"
            mtu = ["mtu", str(route["mtu"])] if route["mtu"] is not None else []
            self.must("ip", "-4", "route", verb, *self._route_words(route), *mtu)


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "default": "tuned", "choices": ["tuned", "restored"]},
            "interface": {"type": "str", "required": True},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "mtu": {"type": "int", "default": 0},
            "offloads": {"type": "dict", "default": {}},
            "queues": {"type": "int", "default": 0},
            "coalescing": {"type": "dict", "default": {}},
            "rings": {"type": "dict", "default": {}},
            "receive_cpus": {"type": "list", "elements": "int", "default": []},
            "carrier_timeout": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    os.environ["PATH"] = zclab_host.SEARCH_PATH
    module.run_command_environ_update = {"LC_ALL": "C"}
    interface = Interface(module.run_command, module.params["interface"])
    missing = [tool for tool in ("ip", "ethtool") if not module.get_bin_path(tool)]
    if missing:
        module.fail_json(msg=f"{interface.where}: no command {missing[0]} on this host: install it")
    with zclab_host.one_line(module, interface.where):
        if module.params["state"] == "restored":
            changes = interface.restore(module.check_mode)
        else:
            changes = interface.tune(module.params, module.check_mode)
        zclab_host.exit_changed(module, changes, interface.state_file)


if __name__ == "__main__":
    main()
