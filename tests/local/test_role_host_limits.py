# SPDX-License-Identifier: Apache-2.0
"""Role host_limits without a host: comparing, refusing, saving once, restoring exactly."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.role_modules import load, run_module, write_tree

limits = load("host_limits/library/zclab_limits.py")

SYSCTLS: dict[str, Any] = {"net.core.optmem_max": 1048576, "net.ipv4.tcp_rmem": "4096 131072 1048576"}


def params(**given: Any) -> dict[str, Any]:
    return {
        "sysctls": SYSCTLS,
        "machine_sysctls": {},
        "locked_memory_kib": "unlimited",
        "rcvlowat_bytes": 524288,
        **given,
    }


def no_command(command: list[str]) -> tuple[int, str, str]:
    raise AssertionError(command)


@pytest.fixture
def host(tmp_path: Path) -> Any:
    write_tree(
        tmp_path,
        {
            "proc/sys/net/core/optmem_max": "20480\n",
            "proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
            "proc/sys/net/ipv4/conf/eth0.7/mtu": "1500\n",
            "proc/sys/kernel/random/boot_id": "boot-1\n",
            "etc/security/limits.d/other.conf": "* - nofile 1024\n",
        },
    )
    return limits.Host(no_command, tmp_path)


def everything(host: Any) -> dict[str, str]:
    return {
        str(path.relative_to(host.root)): limits.normal(path.read_text(encoding="utf-8"))
        for path in host.root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("4096\t131072\t6291456\n", "4096 131072 6291456"), (1, "1"), (True, "1"), ("  a  b ", "a b"), ("", "")],
)
def test_values_compare_without_white_space(value: Any, wanted: str) -> None:
    assert limits.normal(value) == wanted


def test_apply_again_and_restore(host: Any) -> None:
    before = everything(host)
    checked = host.set(params(), check_mode=True)
    assert everything(host) == before
    assert host.set(params(), check_mode=False) == checked
    assert [what for what, *_ in checked] == ["net.core.optmem_max", "net.ipv4.tcp_rmem", "locked memory"]
    assert "root - memlock unlimited" in host.limits_file.read_text(encoding="utf-8")
    saved = host.state_file.read_text(encoding="utf-8")
    assert host.set(params(), check_mode=False) == []
    assert len(host.restore(check_mode=True)) == 3
    assert host.state_file.read_text(encoding="utf-8") == saved
    assert len(host.restore(check_mode=False)) == 3
    assert everything(host) == before
    assert not host.state_file.exists()
    assert host.restore(check_mode=False) == []


def test_what_is_no_longer_declared_goes_back(host: Any) -> None:
    """A sysctl that was declared by mistake, and the locked-memory limit; restoring leaves it alone then."""
    before = everything(host)
    host.set(params(), check_mode=False)
    fewer = {"net.core.optmem_max": 1048576}
    given = params(sysctls=fewer, locked_memory_kib="", rcvlowat_bytes=0)
    wanted = [
        ("net.ipv4.tcp_rmem", "4096 131072 1048576", "4096 131072 6291456"),
        ("locked memory", "unlimited", "the host's own"),
    ]
    assert host.set(given, check_mode=True) == wanted
    assert host.set(given, check_mode=False) == wanted
    assert host.set(given, check_mode=False) == []
    write_tree(host.root, {"proc/sys/net/ipv4/tcp_rmem": "1 2 3\n"})  # somebody's own, since
    assert host.restore(check_mode=False) == [("net.core.optmem_max", "1048576", "20480")]
    assert everything(host) == {**before, "proc/sys/net/ipv4/tcp_rmem": "1 2 3"}


def test_a_restore_names_what_does_not_go_back_and_puts_the_rest_back(host: Any) -> None:
    host.set(params(), check_mode=False)
    file = host.sysctl_file("net.core.optmem_max")
    file.unlink()
    with pytest.raises(limits.RefusedError, match=r"has no sysctl net\.core\.optmem_max.*limits\.json"):
        host.restore(check_mode=False)
    assert host.read_sysctl("net.ipv4.tcp_rmem") == "4096 131072 6291456"
    assert not host.limits_file.exists()
    write_tree(host.root, {"proc/sys/net/core/optmem_max": "1048576\n"})
    assert host.restore(check_mode=False) == [("net.core.optmem_max", "1048576", "20480")]
    assert not host.state_file.exists()


def test_what_was_saved_is_not_saved_again(host: Any) -> None:
    host.set(params(), check_mode=False)
    later = {**SYSCTLS, "net.core.optmem_max": 2097152, "net.ipv4.conf/eth0.7/mtu": 1}
    later["net/ipv4/conf/eth0.7/mtu"] = later.pop("net.ipv4.conf/eth0.7/mtu")
    host.set(params(sysctls=later, locked_memory_kib="65536"), check_mode=False)
    saved = json.loads(host.state_file.read_text(encoding="utf-8"))
    assert saved["sysctls"] == {
        "net.core.optmem_max": "20480",
        "net.ipv4.tcp_rmem": "4096 131072 6291456",
        "net/ipv4/conf/eth0.7/mtu": "1500",
    }
    assert saved["limits_file"] is None


def test_a_value_that_somebody_changed_since_goes_back_to_the_first(host: Any) -> None:
    """A sysctl that was right at the first run counts as saved: what came later is not what was before."""
    host.set(params(sysctls={**SYSCTLS, "net.core.optmem_max": 20480}), check_mode=False)
    write_tree(host.root, {"proc/sys/net/core/optmem_max": "7\n"})
    host.set(params(sysctls={**SYSCTLS, "net.core.optmem_max": 20480}), check_mode=False)
    host.restore(check_mode=False)
    assert host.read_sysctl("net.core.optmem_max") == "20480"


def test_a_reboot_drops_sysctls_and_keeps_the_file(host: Any) -> None:
    host.set(params(), check_mode=False)
    write_tree(
        host.root, {"proc/sys/kernel/random/boot_id": "boot-2\n", "proc/sys/net/core/optmem_max": "81920\n"}
    )
    host.set(params(), check_mode=False)
    host.restore(check_mode=False)
    assert host.read_sysctl("net.core.optmem_max") == "81920"
    assert host.read_sysctl("net.ipv4.tcp_rmem") == "4096 131072 1048576"  # what this boot came up with
    assert not host.limits_file.exists()


def test_a_file_that_was_there_comes_back(host: Any) -> None:
    write_tree(host.root, {"etc/security/limits.d/zclab.conf": "mine\n"})
    host.set(params(), check_mode=False)
    host.restore(check_mode=False)
    assert host.limits_file.read_text(encoding="utf-8") == "mine\n"


def test_what_only_the_machine_has_is_not_asked_of_the_host(host: Any) -> None:
    """Old kernels show some sysctls outside of namespaces only; one that a host has for itself is set."""
    machine = {"net.core.nosuch": 1, "net.core.optmem_max": 1}
    given = params(sysctls={"net.core.nosuch": 7, "net.core.optmem_max": 1048576}, machine_sysctls=machine)
    changes = host.set(given, check_mode=False)
    assert ("net.core.optmem_max", "20480", "1048576") in changes
    assert not any(what == "net.core.nosuch" for what, *_ in changes)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sysctls": {"net.core.nosuch": 1}}, "has no sysctl net.core.nosuch"),
        (
            {"machine_sysctls": {"net.core.optmem_max": 1 << 40}},
            r"net.core.optmem_max is \d+, the lab needs 1099511627776; it belongs to the machine: run",
        ),
        (
            {"sysctls": {}, "machine_sysctls": {"net.core.optmem_max": 1 << 40}},
            r"net.core.optmem_max is \d+, the lab needs 1099511627776; it belongs to the machine: run",
        ),
        ({"sysctls": {"../../etc/passwd": 1}}, "is no name of a sysctl"),
        ({"rcvlowat_bytes": 524289}, "rcvlowat_bytes 524289 is more than half of the largest net.ipv4"),
        ({"sysctls": {}, "rcvlowat_bytes": 4 << 20}, r"largest net.ipv4.tcp_rmem \(6291456\)"),
        ({"locked_memory_kib": "lots"}, "locked_memory_kib 'lots'"),
    ],
)
def test_refused_before_anything_is_changed(host: Any, given: dict[str, Any], said: str) -> None:
    before = everything(host)
    with pytest.raises(limits.RefusedError, match=said) as refusal:
        host.set(params(**given), check_mode=False)
    assert "\n" not in str(refusal.value)
    assert everything(host) == before


def test_a_value_that_does_not_hold_is_said(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.Host, "read_sysctl", lambda _self, _name: "7")
    with pytest.raises(limits.RefusedError, match=r"sysctl net\.core\.optmem_max is 7 after 8 was written"):
        host.write_sysctl("net.core.optmem_max", "8")


def test_logins_read_limits(host: Any) -> None:
    assert host.logins_read_limits()
    write_tree(host.root, {"etc/pam.d/sshd": "# session required pam_limits.so\n@include common-session\n"})
    assert not host.logins_read_limits()
    write_tree(host.root, {"etc/pam.d/common-session": "session required pam_limits.so\n"})
    assert host.logins_read_limits()


def test_read_only_sysctl_is_one_line() -> None:
    """In a network namespace rmem_max belongs to the machine: the module says so and changes nothing."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    namespace = f"zclab-test-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    # /proc/sys is read-only, as in a container, and the saved state of this machine is out of reach.
    script = 'mount -t tmpfs none /var/lib && mount --bind -o ro /proc/sys /proc/sys && exec "$@"'
    prefix = ("ip", "netns", "exec", namespace, "sh", "-c", script, "sh")
    try:
        wanted = {"sysctls": {"net.ipv4.tcp_timestamps": 0, "net.ipv4.tcp_mtu_probing": 1}}
        checked = run_module("host_limits/library/zclab_limits.py", wanted, *prefix, check=True)
        result = run_module("host_limits/library/zclab_limits.py", wanted, *prefix)
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=True)
    assert result["failed"], result
    assert "sysctl net.ipv4.tcp_timestamps is read-only here" in result["msg"]
    assert checked["msg"] == result["msg"]
    assert "\n" not in result["msg"]
