#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""One network interface as declared: MTU, offloads, queues, rings, coalescing, addresses, peers' routes.

Its options are the variables of the role. `tuned` reads the interface, changes only what differs, and reads
it again to see that it holds. What an earlier run changed and is no longer declared goes back to what it was.
Routes of the host are not touched: a peer gets a host route of its own, with a protocol number that no other
program uses. Before its first change the module saves in /var/lib/zclab/link-NAME.json what each setting
was, and with each later one which settings and addresses are its own. None of them survives a reboot, so a
file from an earlier boot (or of an interface that was made anew since) says nothing any more.

`restored` puts back every interface that has such a file: settings get their saved values; the addresses and
routes that the module added are removed, and no others. Then the file is removed.

Returns `changes`, one line each, and `state_file`, the path of the saved state ("" if there is none).
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils import zclab_ethtool, zclab_host
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.zclab_ethtool import word
from ansible.module_utils.zclab_host import RefusedError

PAGE_BYTES = 4096
IPV4_OVERHEAD_BYTES = 20 + 20 + 12  # IP, TCP, TCP timestamps
#: Marks the module's routes; in no list of protocols (iproute2's rt_protos, rtnetlink(7)).
ROUTE_PROTOCOL = "122"
#: Of the saved state. A file of another one is of another version of the module.
STATE_VERSION = 2
#: Setting one thing back can move another (MTU and IPv6 routes, queues and their masks).
RESTORE_ROUNDS = 3
WRITE_FILES = 'while [ $# -gt 0 ]; do echo "$2" >"$1"; shift 2; done'


class Step(NamedTuple):
    """A change: what, its value before and after, and the command that makes it."""

    what: str
    before: str
    after: str
    command: list[str]

    def change(self) -> tuple[str, str, str]:
        """Return it without the command."""
        return self.what, self.before, self.after


def whole_page_ipv4_mtu(mtu: int) -> int | None:
    """Return the largest MTU up to `mtu` whose IPv4 segments carry whole pages, None if there is none."""
    pages = (mtu - IPV4_OVERHEAD_BYTES) // PAGE_BYTES
    return pages * PAGE_BYTES + IPV4_OVERHEAD_BYTES if pages > 0 else None


def without_mtu(route: str) -> str:
    """Return a route as `ip route show` prints it, without its MTU."""
    return re.sub(r" mtu (lock )?\d+", "", route)


class Interface(zclab_host.Host):
    """A network interface of this host."""

    def __init__(self, run: zclab_host.Run, name: str) -> None:
        super().__init__(run)
        self.where = f"{self.name}: {name}"
        self.name = name
        self.state_file = self.state_dir / f"link-{name.replace('/', '_')}.json"
        self.ipv6_mtu_file = Path(f"/proc/sys/net/ipv6/conf/{name}/mtu")

    # What is

    def exists(self) -> bool:
        """Whether the host has the interface."""
        return (Path("/sys/class/net") / self.name).exists()

    def link(self) -> dict[str, Any]:
        """Return what `ip` says of the interface.

        Raises:
            RefusedError: there is no such interface.
        """
        if not self.exists():
            others = sorted(path.name for path in Path("/sys/class/net").iterdir() if path.name != "lo")
            raise RefusedError(
                f"{self.where}: no such interface (there are: {', '.join(others) or 'none'}): correct the "
                "host's data_interface, or see why its driver did not bring it up"
            )
        found: list[dict[str, Any]] = json.loads(
            self.must("ip", "-j", "-d", "addr", "show", "dev", self.name)
        )
        return found[0]

    @staticmethod
    def addresses(link: dict[str, Any]) -> list[str]:
        """Return the addresses of `link` that somebody set, sorted (link-local ones make themselves)."""
        return sorted(
            str(ipaddress.ip_interface(f"{item['local']}/{item['prefixlen']}"))
            for item in link["addr_info"]
            if item.get("scope") != "link"
        )

    def settings(self) -> dict[str, Any]:
        """Return every setting that tuning may change, and what changes along with the MTU."""
        link = self.link()
        features = zclab_ethtool.parse_features(self.must("ethtool", "-k", self.name))
        routes = self.must("ip", "-6", "-o", "route", "show", "table", "all", "dev", self.name)
        return {
            "up": "UP" in link["flags"],
            "mtu": link["mtu"],
            "ipv6_mtu": self.text(self.ipv6_mtu_file).strip(),
            # With an MTU of the interface goes that of each IPv6 route that has one; routers' own come anew.
            "ipv6_routes": [
                " ".join(line.split())
                for line in routes.splitlines()
                if " mtu " in line and " proto ra " not in line
            ],
            "features": {
                name: feature["wanted"]
                for name, feature in features.items()
                if not feature["fixed"] and not feature["group"]
            },
            "channels": zclab_ethtool.parse_channels(self.may("ethtool", "-l", self.name))["current"],
            "coalescing": zclab_ethtool.parse_coalescing(self.may("ethtool", "-c", self.name)),
            "rings": zclab_ethtool.parse_rings(self.may("ethtool", "-g", self.name)),
            "steering": self.steering(),
        }

    def steering(self) -> dict[str, str]:
        """Return the CPU mask of each receive queue, as the kernel writes it, by the queue's file."""
        files = sorted(Path(f"/sys/class/net/{self.name}/queues").glob("rx-*/rps_cpus"))
        return {str(path): path.read_text(encoding="ascii").strip() for path in files}

    def own_routes(self) -> dict[str, dict[str, Any]]:
        """Return the routes that the module added, by the peer: {source, mtu}."""
        command = ("ip", "-j", "-4", "route", "show", "dev", self.name, "proto", ROUTE_PROTOCOL)
        return {
            str(route["dst"]): {
                "source": route.get("prefsrc"),
                "mtu": next((one["mtu"] for one in route.get("metrics", []) if "mtu" in one), None),
            }
            for route in json.loads(self.must(*command) or "[]")
        }

    # The saved state

    def saved(self) -> dict[str, Any]:
        """Return the saved state, {} if there is none of this boot and this interface.

        Raises:
            RefusedError: another version of the module saved it.
        """
        document = self.load(self.state_file)
        if not document:
            return {}
        index = Path(f"/sys/class/net/{self.name}/ifindex")
        same = index.exists() and int(index.read_text(encoding="ascii")) == document["ifindex"]
        if not same or document["boot_id"] != self.boot_id():
            return {}
        if document.get("version") != STATE_VERSION:
            raise RefusedError(
                f"{self.where}: another version of zclab saved {self.state_file}: restore with that one, or "
                "reboot the host, which puts the link back"
            )
        return document

    def _new_state(self) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "interface": self.name,
            "boot_id": self.boot_id(),
            "ifindex": self.link()["ifindex"],
            "before": {**self.settings(), "addresses": self.addresses(self.link())},
            "added": [],  # addresses
            "changed": [],  # settings, by what a Step calls them
        }

    def others_with(self, addresses: list[str]) -> list[Interface]:
        """Return other interfaces that an earlier run gave one of these addresses: the declaration moved."""
        found = []
        for other in saved_interfaces(self.run):
            if other.name != self.name and set(other.saved().get("added", [])) & set(addresses):
                found.append(other)
        return found

    # What is wanted against what is

    def steps(self, params: dict[str, Any], state: dict[str, Any]) -> list[Step]:
        """Return the differences in the order in which to apply them.

        What is no longer declared goes first, then what makes a driver restart its rings, the addresses last.

        Raises:
            RefusedError: the driver or the host cannot do it.
        """
        link = self.link()
        features = self.must("ethtool", "-k", self.name)
        addresses = self.wanted_addresses(params["addresses"])
        routes = self.wanted_routes(params["ipv4_peers"], addresses, params["mtu"] or link["mtu"])
        present = self.addresses(link)
        own = self.own_routes()
        # Routes before their source addresses: the kernel removes them along with these.
        steps = [self._delete_route(peer, route) for peer, route in own.items() if routes.get(peer) != route]
        steps += [
            Step(f"address {address}", "present", "absent", self._delete_address(address))
            for address in state.get("added", [])
            if address in present and address not in addresses
        ]
        undeclared = set(state.get("changed", [])) - self._declared(params, features)
        if undeclared:
            if "mtu" in undeclared:
                undeclared |= {"IPv6 mtu", "IPv6 routes"}
            steps += self.back(state["before"], undeclared)
        steps += self._declared_steps(params, link, features, addresses)
        for address in addresses:
            if address not in present:
                steps.append(Step(f"address {address}", "absent", "present", self._add_address(address)))
        for peer, route in routes.items():
            if own.get(peer) != route:
                command = ["ip", "-4", "route", "prepend", f"{peer}/32", "dev", self.name]
                command += ["proto", ROUTE_PROTOCOL, "src", route["source"], "mtu", str(route["mtu"])]
                steps.append(Step(f"route to {peer}", "absent", f"mtu {route['mtu']}", command))
        return steps

    def _declared_steps(
        self, params: dict[str, Any], link: dict[str, Any], features: str, addresses: list[str]
    ) -> list[Step]:
        steps: list[Step] = []
        if params["offloads"]:
            parsed = zclab_ethtool.parse_features(features)
            for name, on in zclab_ethtool.offload_changes(params["offloads"], parsed, self.where).items():
                command = ["ethtool", "-K", self.name, name, word(on)]
                steps.append(Step(f"offload {name}", word(not on), word(on), command))
        if params["queues"]:
            steps += self._queue_steps(params["queues"])
        if params["rings"]:
            text = self.may("ethtool", "-g", self.name)
            most = zclab_ethtool.largest_rings(text)
            for name, value in params["rings"].items():
                if value > most.get(name, value):
                    raise RefusedError(
                        f"{self.where}: ring {name} has at most {most[name]} descriptors, not {value}: "
                        "lower it in the lab's tuning"
                    )
            steps += self._table_steps("ring", "-G", params["rings"], zclab_ethtool.parse_rings(text))
        if params["coalescing"]:
            now = zclab_ethtool.parse_coalescing(self.may("ethtool", "-c", self.name))
            steps += self._table_steps("coalescing", "-C", params["coalescing"], now)
        if params["mtu"]:
            steps += self._mtu_steps(params["mtu"], link, addresses)
        if "UP" not in link["flags"]:
            steps.append(Step("link", "down", "up", ["ip", "link", "set", "dev", self.name, "up"]))
        if params["receive_cpus"]:
            steps += self._steering_steps(
                params["receive_cpus"], any(step.what == "queues" for step in steps)
            )
        return steps

    def _declared(self, params: dict[str, Any], features: str) -> set[str]:
        """Return what is declared, by what a Step calls it; of offloads the single switches."""
        members = zclab_ethtool.group_members(features)
        names = {"link", *(("mtu", "IPv6 mtu") if params["mtu"] else ())}
        names |= {"queues"} if params["queues"] else set()
        names |= {"receive CPUs"} if params["receive_cpus"] else set()
        names |= {f"ring {name}" for name in params["rings"]}
        names |= {f"coalescing {name}" for name in params["coalescing"]}
        for name in params["offloads"]:
            names |= self._switches(f"offload {zclab_ethtool.OFFLOAD_NAMES.get(name, name)}", members)
        return names

    @staticmethod
    def _switches(what: str, members: dict[str, list[str]]) -> set[str]:
        """Return what a change is about; an offload that is a group stands for its switches."""
        part, _, name = what.partition(" ")
        return {f"offload {one}" for one in members.get(name, [name])} if part == "offload" else {what}

    def wanted_addresses(self, declared: list[str]) -> list[str]:
        """Return the declared addresses as the kernel shows them."""
        try:
            return [str(ipaddress.ip_interface(address)) for address in declared]
        except ValueError as error:
            raise RefusedError(f"{self.where}: {error}: correct the lab's link or tuning") from None

    def wanted_routes(self, peers: list[str], addresses: list[str], mtu: int) -> dict[str, dict[str, Any]]:
        """Return the routes to the peers on a link with an MTU for IPv6, by the peer: {source, mtu}.

        Raises:
            RefusedError: a peer is no IPv4 address, or in the network of none of the addresses.
        """
        route_mtu = whole_page_ipv4_mtu(mtu)
        if route_mtu is None or route_mtu == mtu:
            return {}
        routes = {}
        for peer in peers:
            try:
                wanted = ipaddress.IPv4Address(peer)
            except ValueError as error:
                raise RefusedError(f"{self.where}: {error}: correct the peer's IPv4 address") from None
            sources = [ipaddress.ip_interface(address) for address in addresses]
            source = next((str(one.ip) for one in sources if wanted in one.network), None)
            if source is None:
                raise RefusedError(
                    f"{self.where}: the peer {peer} is in the network of none of its addresses "
                    f"({', '.join(addresses) or 'none'}): correct the hosts' IPv4 addresses"
                )
            routes[peer] = {"source": source, "mtu": route_mtu}
        return routes

    def _add_address(self, address: str) -> list[str]:
        extra = []
        if ":" in address:
            # Without duplicate detection the address can be used at once; a lab's addresses are its own.
            extra.append("nodad")
            network = str(ipaddress.ip_interface(address).network)
            routes = json.loads(self.must("ip", "-j", "-6", "route", "show", "dev", self.name) or "[]")
            # The kernel's route to the network would take its place, and go with the address.
            if any(route["dst"] == network and route.get("protocol") != "kernel" for route in routes):
                extra.append("noprefixroute")
        return ["ip", "addr", "add", address, "dev", self.name, *extra]

    def _delete_address(self, address: str) -> list[str]:
        return ["ip", "addr", "del", address, "dev", self.name]

    def _delete_route(self, peer: str, route: dict[str, Any]) -> Step:
        command = ["ip", "-4", "route", "del", f"{peer}/32", "dev", self.name, "proto", ROUTE_PROTOCOL]
        return Step(f"route to {peer}", f"mtu {route['mtu']}", "absent", command)

    def _mtu_steps(self, wanted: int, link: dict[str, Any], addresses: list[str]) -> list[Step]:
        least, most = link.get("min_mtu", 0), link.get("max_mtu", 0)
        if wanted < least or 0 < most < wanted:
            raise RefusedError(
                f"{self.where}: mtu cannot be set to {wanted}: its driver takes {least} to {most or 'any'}: "
                "correct the lab's link"
            )
        if link["mtu"] != wanted:
            command = ["ip", "link", "set", "dev", self.name, "mtu", str(wanted)]
            return [Step("mtu", str(link["mtu"]), str(wanted), command)]  # that of IPv6 follows
        ipv6_mtu = self.text(self.ipv6_mtu_file).strip()
        if not any(":" in address for address in addresses) or ipv6_mtu in ("", str(wanted)):
            return []
        return [self._ipv6_mtu_step(ipv6_mtu, str(wanted))]

    def _ipv6_mtu_step(self, now: str, wanted: str) -> Step:
        command = ["sh", "-ec", WRITE_FILES, "sh", str(self.ipv6_mtu_file), wanted]
        return Step("IPv6 mtu", now, wanted, command)

    def _steering_steps(self, cpus: list[int], new_queues: bool) -> list[Step]:
        """Return the step that gives every receive queue its mask; queues that are new have none yet."""
        possible = self.text(Path("/sys/devices/system/cpu/possible")).strip()
        last = re.search(r"(\d+)$", possible)
        if last and max(cpus) > int(last[1]):
            raise RefusedError(
                f"{self.where}: receive_cpus names CPU {max(cpus)}, and the host has CPUs {possible}: "
                "correct the lab's tuning"
            )
        wanted = sum(1 << cpu for cpu in cpus)
        masks = sorted(set(self.steering().values()))
        if not new_queues and all(int(mask.replace(",", ""), 16) == wanted for mask in masks):
            return []
        script = f'for file in /sys/class/net/{self.name}/queues/rx-*/rps_cpus; do echo "$1" >"$file"; done'
        mask = zclab_ethtool.cpu_mask(wanted)
        return [Step("receive CPUs", " ".join(masks), mask, ["sh", "-ec", script, "sh", mask])]

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
        channels = zclab_ethtool.parse_channels(text)
        words = zclab_ethtool.queue_words(channels, wanted, self.where)
        if not words:
            return []
        was = " ".join(f"{kind} {count}" for kind, count in channels["current"].items())
        return [Step("queues", was, " ".join(words), ["ethtool", "-L", self.name, *words])]

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
                steps.append(Step(f"{kind} {name}", word(now[name]), word(value), command))
        return steps

    def back(self, before: dict[str, Any], only: set[str] | None = None) -> list[Step]:
        """Return what to change so that each setting is what it was; only: those that a Step calls so."""
        now = self.settings()
        steps = []
        for part, kind, option in (
            ("features", "offload", "-K"),
            ("rings", "ring", "-G"),
            ("coalescing", "coalescing", "-C"),
        ):
            wrong = {
                name: value
                for name, value in before[part].items()
                if now[part].get(name, value) != value and (only is None or f"{kind} {name}" in only)
            }
            # All in one command: some hold only along with others.
            words = [text for name, value in wrong.items() for text in (name, word(value))]
            command = ["ethtool", option, self.name, *words]
            steps += [
                Step(f"{kind} {name}", word(now[part][name]), word(value), command)
                for name, value in wrong.items()
            ]
        others = self._others_back(before, now)
        return [*steps, *(step for step in others if only is None or step.what in only)]

    def _others_back(self, before: dict[str, Any], now: dict[str, Any]) -> list[Step]:
        steps = []
        channels = {
            kind: count for kind, count in before["channels"].items() if now["channels"].get(kind) != count
        }
        if channels:
            words = [text for kind, count in channels.items() for text in (kind, str(count))]
            was = " ".join(f"{kind} {count}" for kind, count in now["channels"].items())
            steps.append(Step("queues", was, " ".join(words), ["ethtool", "-L", self.name, *words]))
        if now["mtu"] != before["mtu"]:
            command = ["ip", "link", "set", "dev", self.name, "mtu", str(before["mtu"])]
            steps.append(Step("mtu", str(now["mtu"]), str(before["mtu"]), command))
        follows = now["mtu"] != before["mtu"] and before["ipv6_mtu"] == str(before["mtu"])
        if now["ipv6_mtu"] and not follows and before["ipv6_mtu"] not in ("", now["ipv6_mtu"]):
            steps.append(self._ipv6_mtu_step(now["ipv6_mtu"], before["ipv6_mtu"]))
        moved = {without_mtu(route): route for route in now["ipv6_routes"]}
        for route in before["ipv6_routes"]:
            is_now = moved.get(without_mtu(route), route)
            if is_now != route:
                command = ["ip", "-6", "route", "replace", *route.split(), "dev", self.name]
                steps.append(Step("IPv6 routes", is_now, route, command))
        masks = {
            file: mask for file, mask in before["steering"].items() if now["steering"].get(file, mask) != mask
        }
        if masks:
            was = " ".join(now["steering"][file] for file in masks)
            command = ["sh", "-ec", WRITE_FILES, "sh", *(text for item in masks.items() for text in item)]
            steps.append(Step("receive CPUs", was, " ".join(masks.values()), command))
        if now["up"] != before["up"]:
            state = "up" if before["up"] else "down"
            command = ["ip", "link", "set", "dev", self.name, state]
            steps.append(Step("link", "up" if now["up"] else "down", state, command))
        return steps

    # Changes

    def tune(self, params: dict[str, Any], check_mode: bool) -> list[tuple[str, str, str]]:
        """Make the interface as declared and return the changes as (what, before, after).

        Raises:
            RefusedError: the driver or the host cannot do it. What was changed until then is in the saved
            state.
        """
        state = self.saved()
        steps = self.steps(params, state)
        changes = []
        addresses = self.wanted_addresses(params["addresses"])
        others = self.others_with(addresses)
        for address in addresses:
            self._refuse_disabled_ipv6(address)
            self._refuse_foreign_address(address, others)
        for other in others:
            changes += [
                (f"{other.name}: {what}", was, after) for what, was, after in other.restore(check_mode)
            ]
        if steps and check_mode and "UP" in self.link()["flags"]:
            self._wait_for_carrier(params["carrier_timeout"])
        if not check_mode and steps:
            state = state or self._new_state()
            self._record(state, steps)
            self._apply_all(steps)
            self._wait_for_carrier(params["carrier_timeout"])
            if left := self.steps(params, state):
                what, now, wanted, command = left[0]
                raise RefusedError(
                    f"{self.where}: {what} is {now} again after {' '.join(command)}, not {wanted}: another "
                    "setting or another program on the host undoes it"
                )
            self._forget_undeclared(params, state)
        if not (check_mode and steps):
            self._see_routes(self.own_routes())
        return [*changes, *(step.change() for step in steps)]

    def _record(self, state: dict[str, Any], steps: Iterable[Step]) -> None:
        """Save what is about to be changed, so that it goes back whatever happens then."""
        members = zclab_ethtool.group_members(self.must("ethtool", "-k", self.name))
        for step in steps:
            part, _, name = step.what.partition(" ")
            if part == "address" and step.after == "present":
                state["added"] = sorted({*state["added"], name})
            elif part not in ("address", "route"):
                state["changed"] = sorted({*state["changed"], *self._switches(step.what, members)})
        self.save(self.state_file, state)

    def _forget_undeclared(self, params: dict[str, Any], state: dict[str, Any]) -> None:
        """Save what is still the module's own, now that the rest is back."""
        declared = self._declared(params, self.must("ethtool", "-k", self.name))
        own = {
            **state,
            "added": [one for one in state["added"] if one in self.wanted_addresses(params["addresses"])],
            "changed": [what for what in state["changed"] if what in declared],
        }
        if own != state:
            self.save(self.state_file, own)

    def _apply_all(self, steps: list[Step]) -> None:
        """Run the steps' commands in order; several steps may share one."""
        last: list[str] = []
        for step in steps:
            if step.command != last:
                self._apply(step)
            last = step.command

    def _apply(self, step: Step) -> None:
        """Run a step's command.

        Raises:
            RefusedError: it failed.
        """
        with contextlib.ExitStack() as stack:
            part, _, address = step.what.partition(" ")
            if part == "address" and step.after == "absent" and ":" not in address:
                stack.enter_context(self._secondary_addresses_stay())
            status, out, err = self.run(step.command)
        if status != 0:
            reason = " ".join(f"{err} {out}".split()) or f"status {status}"
            raise RefusedError(
                f"{self.where}: {step.what} cannot be set to {step.after}: {' '.join(step.command)}: {reason}"
                ": correct the lab's link or tuning"
            )

    @contextlib.contextmanager
    def _secondary_addresses_stay(self) -> Iterator[None]:
        """Have the kernel promote the next address of a network when its first one is removed.

        It removes all of that network otherwise.
        """
        switch = Path(f"/proc/sys/net/ipv4/conf/{self.name}/promote_secondaries")
        was = switch.read_text(encoding="ascii")
        try:
            if was.strip() == "0":
                switch.write_text("1", encoding="ascii")
            yield
        finally:
            if was.strip() == "0":
                switch.write_text(was, encoding="ascii")

    def _see_routes(self, routes: dict[str, dict[str, Any]]) -> None:
        """Refuse a host where something goes before the module's own routes."""
        for peer, route in routes.items():
            found = json.loads(self.must("ip", "-j", "-4", "route", "get", peer, "from", route["source"]))[0]
            mtu = next((one["mtu"] for one in found.get("metrics", []) if "mtu" in one), None)
            if (found.get("dev"), mtu) != (self.name, route["mtu"]):
                raise RefusedError(
                    f"{self.where}: the route to {peer} is through {found.get('dev')} with MTU "
                    f"{mtu or 'of the link'}, though {self.name} has one with {route['mtu']}: see `ip rule` "
                    f"and `ip route get {peer} from {route['source']}` there"
                )

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

    def _refuse_foreign_address(self, address: str, own: list[Interface]) -> None:
        """Refuse an address that another interface has, unless one of `own` loses it first."""
        wanted = ipaddress.ip_interface(address).ip
        leaving = {other.name for other in own if address in other.saved()["added"]}
        for link in json.loads(self.must("ip", "-j", "addr", "show")):
            for item in link["addr_info"]:
                if (
                    link["ifname"] not in {self.name, *leaving}
                    and ipaddress.ip_address(item["local"]) == wanted
                ):
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

    # Restoring

    def restore(self, check_mode: bool) -> list[tuple[str, str, str]]:
        """Put the settings back, remove what was added, and return the changes as (what, before, after).

        Raises:
            RefusedError: something did not go back, each named; the rest did, and the saved state is kept.
        """
        state = self.saved()
        if not state:
            if not check_mode:
                # Of an earlier boot, if it is there at all: the reboot has put everything back.
                self.forget(self.state_file)
            return []
        steps = self._restore_steps(state)
        if check_mode:
            return [step.change() for step in steps]
        changes: dict[tuple[str, str, str], None] = {}
        refused: dict[str, str] = {}
        for _ in range(RESTORE_ROUNDS):
            refused = {}
            for step in steps:
                changes.setdefault(step.change())
                try:
                    self._restore_step(step, state)
                except RefusedError as error:
                    refused[step.what] = str(error)
            if not (steps := self._restore_steps(state)):
                break
        if steps:
            wrong = "; ".join(
                f"{step.what} is {step.before} and did not go back to {step.after}"
                + (f" ({refused[step.what]})" if step.what in refused else "")
                for step in steps
            )
            raise RefusedError(f"{self.where}: {wrong}: set it by hand, then remove {self.state_file}")
        self.forget(self.state_file)
        return list(changes)

    def _restore_steps(self, state: dict[str, Any]) -> list[Step]:
        present = self.addresses(self.link())
        return [
            *(self._delete_route(peer, route) for peer, route in self.own_routes().items()),
            *(
                Step(f"address {address}", "present", "absent", self._delete_address(address))
                for address in state["added"]
                if address in present
            ),
            *self.back(state["before"]),
        ]

    def _restore_step(self, step: Step, state: dict[str, Any]) -> None:
        """Apply a step; taking the link down removes IPv6 addresses that were there before it was up."""
        if (step.what, step.after) != ("link", "down"):
            self._apply(step)
            return
        had = [item for item in self.link()["addr_info"] if item["family"] == "inet6"]
        self._apply(step)
        left = self.addresses(self.link())
        for item in had:
            address = str(ipaddress.ip_interface(f"{item['local']}/{item['prefixlen']}"))
            if address in state["before"]["addresses"] and address not in left:
                self.must("ip", "addr", "add", address, "dev", self.name, *address_words(item))


def address_words(item: dict[str, Any]) -> list[str]:
    """Return the words of `ip addr add` for an address as `ip -j addr` shows it, lifetimes included."""
    words = [name for name in ("nodad", "noprefixroute", "home", "mngtmpaddr") if item.get(name)]
    for name, key in (("valid_lft", "valid_life_time"), ("preferred_lft", "preferred_life_time")):
        seconds = item.get(key, 0xFFFFFFFF)
        words += [name, "forever" if seconds == 0xFFFFFFFF else str(seconds)]
    return words


def saved_interfaces(run: zclab_host.Run) -> list[Interface]:
    """Return the interfaces whose state is saved, of whichever boot."""
    host = zclab_host.Host(run)
    names = [
        str(host.load(path).get("interface", path.stem.removeprefix("link-")))
        for path in sorted(host.state_dir.glob("link-*.json"))
    ]
    return [Interface(run, name) for name in names]


def restore_all(run: zclab_host.Run, check_mode: bool) -> list[tuple[str, str, str]]:
    """Put every tuned interface back and return the changes as (what, before, after).

    Raises:
        RefusedError: something did not go back; the other interfaces did.
    """
    changes, refused = [], []
    interfaces = saved_interfaces(run)
    for interface in interfaces:
        try:
            done = interface.restore(check_mode)
        except RefusedError as error:
            refused.append(str(error))
            continue
        prefix = f"{interface.name}: " if len(interfaces) > 1 else ""
        changes += [(f"{prefix}{what}", was, after) for what, was, after in done]
    if refused:
        raise RefusedError("; ".join(refused))
    if not check_mode:
        zclab_host.Host(run).forget()
    return changes


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "default": "tuned", "choices": ["tuned", "restored"]},
            "interface": {"type": "str"},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "ipv4_peers": {"type": "list", "elements": "str", "default": []},
            "mtu": {"type": "int", "default": 0},
            "offloads": {"type": "dict", "default": {}},
            "queues": {"type": "int", "default": 0},
            "coalescing": {"type": "dict", "default": {}},
            "rings": {"type": "dict", "default": {}},
            "receive_cpus": {"type": "list", "elements": "int", "default": []},
            "carrier_timeout": {"type": "int", "default": 20},
        },
        required_if=[("state", "tuned", ("interface",))],
        supports_check_mode=True,
    )
    os.environ["PATH"] = zclab_host.SEARCH_PATH
    module.run_command_environ_update = {"LC_ALL": "C"}
    name = module.params["interface"] or ""
    interface = Interface(module.run_command, name)
    where = interface.where if name else zclab_host.Host(module.run_command).where
    missing = [tool for tool in ("ip", "ethtool") if not module.get_bin_path(tool)]
    if missing:
        module.fail_json(msg=f"{where}: no command {missing[0]} on this host: install it")
    with zclab_host.one_line(module, where):
        if module.params["state"] == "restored":
            changes = restore_all(module.run_command, module.check_mode)
            zclab_host.exit_changed(module, changes)
        changes = interface.tune(module.params, module.check_mode)
        zclab_host.exit_changed(module, changes, interface.state_file)


if __name__ == "__main__":
    main()
