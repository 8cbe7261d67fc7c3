# SPDX-License-Identifier: Apache-2.0
"""End to end, on two virtual hosts of this test's own: from nothing to a verdict, and lies that are caught.

Each test leaves the lab as `zclab up` makes it. They run in the order of this file, which is the order in
which a user would meet them.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.virtual_lab import LabUnderTest

from zclab.base.paths import project_root, runs_dir
from zclab.kernel import build
from zclab.plan import schedule
from zclab.plan.plan import Plan

pytestmark = pytest.mark.lab

#: A plan as short as it can be while its gates could still decide: it covers both mapping senders.
SHORT_PLAN: dict[str, Any] = {
    "seconds": 1,
    "warmup_seconds": 0.3,
    "repeats": 2,
    "baseline": True,
    "integrity_bytes": 4194304,
    "message_bytes": [262144],
    "chunk_bytes": 524288,
    "pace_gbit_per_s": [None],
    "comparisons": [
        {
            "name": "receive",
            "a": {"receive_mode": "copy", "send_mode": "copy"},
            "b": {"receive_mode": "map_once", "send_mode": "copy"},
            "metrics": {"receiver_usec_per_mib": ["F4"], "gbit_per_s": []},
        },
        {
            "name": "both",
            "a": {"receive_mode": "map_once_hybrid", "send_mode": "copy"},
            "b": {"receive_mode": "map_once", "send_mode": "zerocopy"},
            "metrics": {"gbit_per_s": []},
        },
    ],
}


#: One comparison of it, unchecked: whether a lab measures at all, and what it says when it does not.
ONE_COMPARISON = {**SHORT_PLAN, "integrity_bytes": 0, "comparisons": [SHORT_PLAN["comparisons"][0]]}


def is_running(pid: int) -> bool:
    """Return whether a process lives; one that ended and that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def changed_counts(stdout: str) -> dict[str, int]:
    """Return `changed=` per host of a playbook's recap."""
    return {
        host: int(count)
        for host, count in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", stdout, re.MULTILINE)
    }


@pytest.fixture(scope="module")
def virtual(shared_lab: LabUnderTest) -> LabUnderTest:
    """The shared lab with its stock kernel and the short plan."""
    shared_lab.use("stock", SHORT_PLAN)
    return shared_lab


@pytest.fixture(scope="module")
def one_comparison(virtual: LabUnderTest) -> str:
    """The file of a plan that takes a few seconds."""
    return written(virtual, "one", ONE_COMPARISON)


def written(virtual: LabUnderTest, name: str, plan: dict[str, Any]) -> str:
    """Write a plan into a file, and return its path."""
    path = virtual.directory.parent / f"{name}.yml"
    path.write_text(yaml.safe_dump(plan), encoding="utf-8")
    return str(path)


def reasons(document: dict[str, Any]) -> str:
    return "\n".join(reason for one in document["measurements"] for reason in one["invalid_reasons"])


def test_verdict_passes_and_the_bytes_were_mapped(virtual: LabUnderTest) -> None:
    done, document = virtual.measure()
    assert done.status == 0, str(done)
    assert document["verdict"] == "pass"
    checked = [one for one in document["measurements"] if one["phase"] == "integrity"]
    assert {one["integrity"] for one in checked} == {"verified"}
    assert len(checked) == 4
    compared = [one for one in document["measurements"] if one["phase"] == "compare"]
    assert len(compared) == 8
    for one in compared:
        assert one["valid"], one
        assert one["integrity"] == "not checked"
        assert one["receiver_cpu"]["host_busy_s"] is not None
        assert one["sender_cpu"]["softirqs"]["NET_RX"] > 0
        if one["receive_mode"] == "map_once":
            assert one["mapped_fraction"] >= (0.97 if one["send_mode"] == "zerocopy" else 0.99)
        if one["send_mode"] == "zerocopy":
            assert one["completions"]["copied"] == 0
            assert one["completions"]["sends"] == one["completions"]["completed"] > 0
        assert one["retransmitted_share"] < 0.001
        assert one["header_split"] > 0
    cpu = [one for one in document["comparisons"] if one["metric"].endswith("usec_per_mib")]
    assert cpu
    if document["emulated"]:
        assert {one["not_gated_because"] for one in cpu} == {"emulated CPU"}


def test_kernel_is_the_artifact_on_both_hosts(virtual: LabUnderTest) -> None:
    kernel = json.loads((virtual.lab.state_dir / "kernel.json").read_text(encoding="utf-8"))["artifact"]
    assert kernel["variant"] == "stock"
    for host in virtual.lab.hosts:
        assert virtual.shell(host.name, "uname -r").strip() == kernel["release"]


def test_doing_it_again_changes_nothing(virtual: LabUnderTest) -> None:
    boots = {
        host.name: virtual.shell(host.name, "cat /proc/sys/kernel/random/boot_id")
        for host in virtual.lab.hosts
    }
    done = virtual.playbook("site")
    assert done.status == 0, str(done)
    counts = changed_counts(done.stdout)
    assert set(counts) >= set(boots)
    assert not any(counts.values()), str(done)
    for host, boot_id in boots.items():
        assert virtual.shell(host, "cat /proc/sys/kernel/random/boot_id") == boot_id


def test_lab_tests_pass_and_write_junit(virtual: LabUnderTest) -> None:
    before = set(runs_dir().glob("*")) if runs_dir().is_dir() else set()
    done = virtual.run_tool("pytest", "lab_tests", "--lab", str(virtual.directory))
    made = set(runs_dir().glob("*")) - before
    try:
        assert done.status == 0, str(done)
        # The plan's run has it; conformance and lockdep make runs of their own.
        (junit,) = (path for one in made if (path := one / "junit.xml").is_file())
        suite = ElementTree.parse(junit).getroot().find("testsuite")
        assert suite is not None
        assert int(suite.attrib["tests"]) > 15
        assert suite.attrib["failures"] == suite.attrib["errors"] == "0"
        skipped = {case.attrib["name"] for case in suite.iter("testcase") if case.find("skipped") is not None}
        # No profile was asked for, nothing of these hosts belongs to a machine around them, and their kernel
        # neither watches locks nor has an mmap() that consumes.
        assert {name.partition("[")[0] for name in skipped} == {
            "test_only_a_plain_sender_copies",
            "test_machine_sysctls",
            "test_locks_are_taken_in_one_order",
            "test_row",
        }
        rows = {name.partition("[")[2] for name in skipped if name.startswith("test_row[")}
        assert {name for name in rows if not name.startswith("map_each-")} == {
            "msg_zerocopy-counter-wraps-4]",
            "msg_zerocopy-counter-wraps-6]",
        }
    finally:
        for directory in made:
            shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ("ip link set data0 mtu 1500", "receiver1: MTU is 1500, the lab declares 4168"),
        pytest.param(
            "sysctl -qw net.ipv4.tcp_timestamps=0",
            "receiver1: net.ipv4.tcp_timestamps is 0, not 1",
            marks=pytest.mark.nightly,
        ),
    ],
    ids=["MTU 1500", "timestamps off"],
)
def test_a_wrong_setting_is_invalid_and_repaired(
    virtual: LabUnderTest, one_comparison: str, lie: str, reason: str
) -> None:
    virtual.shell("receiver1", lie)
    done, document = virtual.measure(one_comparison)
    assert done.status == 4, str(done)
    assert document["verdict"] == "invalid"
    assert reason in reasons(document)
    virtual.up()
    assert virtual.measure(one_comparison)[1]["verdict"] == "pass"


def test_a_kernel_report_on_the_console_fails(virtual: LabUnderTest) -> None:
    planted = "WARNING: CPU: 0 PID: 1 at planted.c:1 planted+0x0/0x1"
    with virtual.remote("sender1") as remote:
        remote.start(f"sleep 12; echo '<4>{planted}' > /dev/kmsg")
        done, document = virtual.measure()
    assert done.status == 1, str(done)
    assert document["verdict"] == "fail"
    assert planted in " ".join(document["console_reports"]["sender1"])


def test_a_reboot_in_mid_run_is_invalid(virtual: LabUnderTest) -> None:
    boot_id = virtual.shell("receiver1", "cat /proc/sys/kernel/random/boot_id").strip()
    with virtual.remote("receiver1") as remote:
        remote.start("sleep 15; echo b > /proc/sysrq-trigger")
        done, document = virtual.measure()
    assert done.status == 4, str(done)
    assert document["verdict"] == "invalid"
    assert any(not one["valid"] for one in document["measurements"])
    virtual.wait_for_reboot("receiver1", boot_id)


def test_the_distribution_kernel_is_not_the_artifact(virtual: LabUnderTest, one_comparison: str) -> None:
    """After the reboot of the test above the one-shot kernel is gone and the known-good one runs."""
    assert "zclab" not in virtual.shell("receiver1", "uname -r")
    done, document = virtual.measure(one_comparison)
    assert done.status == 4, str(done)
    assert "not the artifact" in reasons(document)
    assert "receiver1: lost its data address" in reasons(document)
    virtual.up()
    assert virtual.measure(one_comparison)[1]["verdict"] == "pass"


@pytest.mark.nightly
def test_a_receiver_without_header_split_is_invalid(virtual: LabUnderTest) -> None:
    """virtio-net as the receiver's NIC maps nothing, whether or not the inventory owns up to it."""
    virtual.set("receivers.yml", "zclab_nic_model", "virtio-net")
    try:
        virtual.up()
        done, document = virtual.measure()
        assert done.status == 4, str(done)
        mapping = [one for one in document["measurements"] if one["receive_mode"] != "copy"]
        assert {one["mapped_bytes"] for one in mapping} == {0}
        assert "mapped fraction 0.0000 is below 0.99" in reasons(document)
    finally:
        virtual.set("receivers.yml", "zclab_nic_model", "e1000e")
        virtual.up()


def compare_kernels(virtual: LabUnderTest) -> None:
    """Carry out a plan whose arms are two kernels: A B B A, with a reboot where the kernel changes."""
    plan = {
        **SHORT_PLAN,
        "integrity_bytes": 0,
        "boots": 2,
        "boot_measurements": 1,
        "comparisons": [
            {
                "name": "kernels",
                "a": {"receive_mode": "map_once", "send_mode": "copy"},
                "b": {"receive_mode": "map_once", "send_mode": "copy", "kernel": "stock"},
                "metrics": {"gbit_per_s": []},
            }
        ],
    }
    orders = (
        [one.arm for one in schedule.measurements(Plan.model_validate({"name": "x", **plan, "seed": seed}))]
        for seed in itertools.count()
    )
    plan["seed"] = next(seed for seed, order in enumerate(orders) if order == ["a", "b", "b", "a"])
    done, document = virtual.measure(written(virtual, "kernels", plan))
    assert done.status == 0, str(done)
    assert [one["kernel_variant"] for one in document["measurements"]] == [None, "stock", "stock", None]
    assert all(one["valid"] for one in document["measurements"])
    assert "Hash tables of a test build" in virtual.shell("receiver1", "dmesg")  # its own kernel again


def test_switching_variants_costs_one_install_and_one_reboot(virtual: LabUnderTest) -> None:
    variants = {name: one.model_dump(mode="json") for name, one in virtual.lab.kernel_variants.items()}
    patch = project_root() / "tests" / "data" / "kernel" / "patches-6.1" / "tcp-message.patch"
    variants["patched"] = {**variants["stock"], "patches": [{"file": str(patch)}]}
    virtual.set("kernel.yml", "zclab_kernel_variants", variants)
    virtual.set("kernel.yml", "zclab_kernel_variant", "patched")
    assert virtual.zclab("run").status == 5  # the hosts still run stock
    build.build("patched", virtual.lab.kernel_variants["patched"])  # so that only hosts change
    done = virtual.playbook("kernel")
    assert done.status == 0, str(done)
    assert changed_counts(done.stdout) == {"localhost": 1, "receiver1": 2, "sender1": 2}
    assert "Hash tables of a test build" in virtual.shell("receiver1", "dmesg")
    virtual.up()
    compare_kernels(virtual)


def test_a_dead_host_is_one_line_and_started_again(virtual: LabUnderTest, one_comparison: str) -> None:
    pid = int((virtual.lab.state_dir / "hosts" / "sender1" / "pid").read_text(encoding="utf-8"))
    os.kill(pid, 9)
    done = virtual.zclab("run")
    assert done.status == 5, str(done)
    assert done.stderr.startswith("zclab: sender1 (127.0.0.1 port ")
    assert len(done.stderr.splitlines()) == 1
    virtual.up()
    assert virtual.measure(one_comparison)[1]["verdict"] == "pass"


def test_a_changed_host_key_is_refused(virtual: LabUnderTest) -> None:
    known_hosts = virtual.lab.state_dir / "known_hosts"
    right = known_hosts.read_text(encoding="utf-8")
    lines = right.splitlines()
    keys = [line.split()[-1] for line in lines]
    known_hosts.write_text(
        "\n".join(line.replace(key, other) for line, key, other in zip(lines, keys, keys[::-1], strict=True))
        + "\n",
        encoding="utf-8",
    )
    try:
        done = virtual.zclab("run")
        assert done.status == 5, str(done)
        assert "its host key is not the one in" in done.stderr
    finally:
        known_hosts.write_text(right, encoding="utf-8")


def test_down_leaves_no_process(virtual: LabUnderTest) -> None:
    pids = [
        int((virtual.lab.state_dir / "hosts" / host.name / "pid").read_text(encoding="utf-8"))
        for host in virtual.lab.hosts
    ]
    done = virtual.zclab("down")
    assert done.status == 0, str(done)
    assert not any(is_running(pid) for pid in pids)
    assert virtual.zclab("run").status == 5
