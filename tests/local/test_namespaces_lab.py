# SPDX-License-Identifier: Apache-2.0
"""The namespaces lab for real, on hosts of this test's own: up, entered, measured, damaged, healed, removed.

The tests run in the order of this file, and each leaves the lab up.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from tests import trusted_tool
from tests.namespaces_lab import NamespacesLab

from zclab.analysis import verdict
from zclab.analysis.document import RunDocument
from zclab.backends.namespaces import lab as hosts
from zclab.backends.namespaces import lab as namespaces
from zclab.base.errors import LabError, UsageError
from zclab.base.paths import project_root, runs_dir
from zclab.base.progress import quiet
from zclab.host.ssh import Remote, RemoteError
from zclab.plan.plan import Plan
from zclab.runs import query
from zclab.runs.folder import Run
from zclab.traffic import binary

SENDER, RECEIVER = "sender1", "receiver1"
#: Seconds after which something counts as hung. Nothing depends on its being reached.
LIMIT = 120
#: Every receive mode that can map and one that cannot, over both IP versions.
PLAN = {
    "seconds": 0.2,
    "warmup_seconds": 0.1,
    "repeats": 1,
    "message_bytes": [262144],
    "chunk_bytes": 524288,
    "pace_gbit_per_s": [None],
    "ip_versions": [6, 4],
    "comparisons": [
        {
            "name": "receive",
            "a": {"receive_mode": "map_once", "send_mode": "copy"},
            "b": {"receive_mode": "map_once", "send_mode": "zerocopy"},
            "metrics": {"gbit_per_s": []},
        },
        {
            "name": "hybrid",
            "a": {"receive_mode": "copy", "send_mode": "zerocopy"},
            "b": {"receive_mode": "map_once_hybrid", "send_mode": "zerocopy"},
            "metrics": {"receiver_usec_per_mib": []},
        },
    ],
}

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="openssh-server is not installed"),
]


class LabUnderTest(NamespacesLab):
    """A copy of the inventory with a state of its own, below a path with a space in it and below /tmp."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        plan = directory / "short.yml"
        plan.write_text(yaml.safe_dump(PLAN), encoding="utf-8")
        settings = self.directory / "group_vars" / "all" / "lab.yml"
        data = yaml.safe_load(settings.read_text(encoding="utf-8")) | {"zclab_plan": str(plan)}
        settings.write_text(yaml.safe_dump(data), encoding="utf-8")
        self.machine = machine()

    @property
    def spec(self) -> hosts.LabSpec:
        return hosts.LabSpec.from_facts(self.lab.facts())

    @property
    def state_dir(self) -> Path:
        return self.lab.state_dir

    def run_tool(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            cwd=project_root(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        )

    def zclab(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run_tool("zclab", command, "--lab", str(self.directory), *arguments)

    def up(self) -> dict[str, int]:
        """Bring the lab up as a user does, and return the number of changes by host."""
        done = self.zclab("up")
        assert done.returncode == 0, str(done)
        line = re.search(r"is up; changed: (.*)", done.stdout)
        assert line, str(done)
        return {host: int(count) for host, count in (part.split() for part in line[1].split(", "))}

    def measure(self) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
        done = self.zclab("run")
        match = re.search(r"^run (\S+):", done.stdout, re.MULTILINE)
        assert match, str(done)
        found = query.find(match[1], pytest.fail)
        document = Run(found.directory, verdict.RUN).document().model_dump(mode="json")
        shutil.rmtree(found.directory)
        return done, document

    def runs(self) -> set[str]:
        """Return the ids of the lab's runs: other tests may keep theirs beside them."""
        own = str(self.directory)
        return {one.directory.name for one in query.all_runs(quiet) if one.summary.lab_dir == own}

    def ssh(self, host: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command over OpenSSH."""
        config = str(self.state_dir / "ssh_config")
        return subprocess.run(
            ["ssh", "-F", config, "-o", "ControlPath=none", "-o", "BatchMode=yes", host, command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    def says(self, host: str, command: str) -> str:
        done = self.ssh(host, command)
        assert done.returncode == 0, str(done)
        return done.stdout.strip()

    def remote(self, host: str) -> Remote:
        return Remote(host, self.state_dir / "ssh_config")


def machine() -> dict[str, str]:
    """Return what of this machine a host must not change: files by their sums, settings, interfaces."""
    found = {}
    for top in ("/etc", "/usr/local/bin", "/usr/local/sbin", "/var/lib/zclab"):
        for path in sorted(Path(top).rglob("*")):
            if path.is_file() and not path.is_symlink():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[str(path)] = "there"
    for setting in ("net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem", "net/core/optmem_max", "kernel/hostname"):
        found[setting] = Path("/proc/sys", setting).read_text(encoding="ascii")
    found["interfaces"] = " ".join(sorted(path.name for path in Path("/sys/class/net").iterdir()))
    return found


def mounts_of(state_dir: Path) -> list[str]:
    """Return the mounts of this machine that have to do with a lab."""
    mark = namespaces.namespace(state_dir, "")
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if mark in line or str(state_dir).replace(" ", "\\040") in line]


def wait_until(what: str, true: Any) -> None:
    deadline = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """Return whether a process runs: one that has ended may still wait for its parent to take note."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def sleeper(remote: Remote) -> int:
    """Start something on a host that does not end with its connection; return its pid on this machine."""
    process = remote.start("setsid sh -c 'echo pid $$ >&2; exec sleep 1000'")
    line = process.wait_for_stderr_line("pid ", LIMIT)
    assert line is not None
    pid = int(line.split()[1])
    assert runs(pid)
    return pid


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUnderTest]:
    made = LabUnderTest(tmp_path_factory.mktemp("a lab"))
    try:
        changed = made.up()
        assert (changed[RECEIVER], changed[SENDER]) == (3, 3)
        yield made
    finally:
        namespaces.down(made.state_dir)


# ------------------------------------------------------------------------------------- a tool that is another


def lying_tool(directory: Path) -> Path:
    """Return a traffic tool that copies in every mode, and says that it mapped where the mode maps."""
    shutil.copytree(project_root() / "traffic", directory / "traffic")
    for name, honest, lie in (
        ("consume.c", '#include "session.h"\n', '#include "receive_modes.h"\n#include "session.h"\n'),
        (
            "consume.c",
            "consume_copied(receiver, receiver->buffer, (size_t)got, cause);",
            "receiver->mode->maps ? consume_mapped(receiver, receiver->buffer, (size_t)got)\n"
            "                              : consume_copied(receiver, receiver->buffer, (size_t)got, cause);",
        ),
        (
            "receive_modes.c",
            "    session->counters.calls++;\n    if (zerocopy_receive(",
            "    if (receiver->chunk_bytes)\n"
            "        return consume_by_copy(receiver, receiver->chunk_bytes, UNMAPPED_UNKNOWN);\n"
            "    if (zerocopy_receive(",
        ),
    ):
        path = directory / "traffic" / name
        text = path.read_text(encoding="utf-8")
        assert text.count(honest) == 1
        path.write_text(text.replace(honest, lie), encoding="utf-8")
    built: Path = binary.build(directory / "traffic", directory / "cache").path
    return built


@contextmanager
def planted(lab: LabUnderTest, tool: Path, *names: str) -> Iterator[None]:
    """Have hosts run another traffic tool meanwhile."""
    places = [namespaces.tree(lab.state_dir, name) / "usr/local/bin/zclab-traffic" for name in names]
    honest = [place.read_bytes() for place in places]
    try:
        for place in places:
            shutil.copy(tool, place)
        yield
    finally:
        for place, content in zip(places, honest, strict=True):
            place.write_bytes(content)


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lying_tool(tmp_path_factory.mktemp("liar"))


def witnessed(lab: LabUnderTest, tool: Path) -> RunDocument:
    """Measure map_once with a traffic tool that counts as the one that was built."""
    comparison = {
        "name": "receive",
        "a": {"receive_mode": "copy", "send_mode": "zerocopy"},
        "b": {"receive_mode": "map_once", "send_mode": "zerocopy"},
        "metrics": {"gbit_per_s": []},
    }
    plan = Plan.model_validate({**PLAN, "name": "witness", "ip_versions": [6], "comparisons": [comparison]})
    return trusted_tool.measure(lab.lab, plan, tool)[0]


@pytest.mark.parametrize("host", [SENDER, RECEIVER])
def test_another_tool_on_a_host_is_not_measured(host: str, lab: LabUnderTest, liar: Path) -> None:
    with planted(lab, liar, host):
        done, document = lab.measure()
    assert (done.returncode, document["verdict"]) == (4, "invalid")
    path = "/usr/local/bin/zclab-traffic is not the program that was built (sha256 "
    for one in document["measurements"]:
        assert f"{host}: {path}" in one["invalid_reasons"][0] and "`zclab up`" in one["invalid_reasons"][0]
        assert one["bytes_received"] is None


def test_a_tool_that_copies_and_says_mapped_is_contradicted_by_the_kernel(
    lab: LabUnderTest, liar: Path
) -> None:
    """Even if its sha256 is the one that is wanted."""
    with planted(lab, liar, SENDER, RECEIVER):
        document = witnessed(lab, liar)
    assert document.verdict == "invalid"
    for one in document.measurements:
        if one.receive_mode == "copy":
            assert one.valid
            continue
        assert one.mapped_fraction == 1.0
        assert one.mapped_witness is not None and one.mapped_witness.agrees is False
        (reason,) = one.invalid_reasons
        assert re.match(
            r"receiver: said that it mapped \d+ bytes, but the kernel copied packets to it", reason
        )


def test_the_honest_tool_agrees_with_the_kernel(lab: LabUnderTest) -> None:
    document = witnessed(lab, namespaces.tree(lab.state_dir, RECEIVER) / "usr/local/bin/zclab-traffic")
    assert document.verdict == "pass"
    for one in document.measurements:
        assert (one.mapped_witness is None) == (one.receive_mode == "copy")
        if one.mapped_witness:
            assert (one.mapped_witness.source, one.mapped_witness.agrees) == ("skb_copy_datagram_iovec", True)


# ----------------------------------------------------------------------------------------------- up, and in


def test_up_again_changes_nothing(lab: LabUnderTest) -> None:
    assert lab.up() == {"localhost": 0, RECEIVER: 0, SENDER: 0}
    assert machine() == lab.machine


def test_every_client_gets_in(lab: LabUnderTest) -> None:
    for host in (SENDER, RECEIVER):
        assert lab.says(host, "hostname; id -un; ls /sys/class/net") == f"{host}\nroot\ndata0\nlo"
        with lab.remote(host) as remote:
            assert remote.output("hostname").strip() == host
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # testinfra checks no host keys
            config = str(lab.state_dir / "ssh_config")
            seen = testinfra.get_host(f"paramiko://{host}", ssh_config=config)
            assert seen.check_output("hostname") == host
    assert "passwordauthentication no" in lab.says(SENDER, "sshd -T")


def test_a_changed_host_key_is_refused(lab: LabUnderTest) -> None:
    known = lab.state_dir / "known_hosts"
    right = known.read_text(encoding="utf-8")
    lines = right.splitlines(keepends=True)
    first, second = (line.split()[2] for line in lines)
    swaps = ((first, second), (second, first))
    known.write_text("".join(line.replace(*pair) for line, pair in zip(lines, swaps, strict=True)), "utf-8")
    try:
        assert "Host key verification failed" in lab.ssh(SENDER, "true").stderr
        with lab.remote(SENDER) as remote, pytest.raises(RemoteError, match="its host key is not the one in"):
            remote.connect()
    finally:
        known.write_text(right, encoding="utf-8")


def test_another_key_does_not_get_in(lab: LabUnderTest, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True)
    config = (lab.state_dir / "ssh_config").read_text(encoding="utf-8")
    changed = re.sub(r"IdentityFile .*", f"IdentityFile {tmp_path / 'id'}", config)
    (tmp_path / "ssh_config").write_text(changed, encoding="utf-8")
    with (
        Remote(SENDER, tmp_path / "ssh_config") as remote,
        pytest.raises(RemoteError, match="Authentication failed"),
    ):
        remote.connect()


def test_what_a_host_writes_stays_its_own(lab: LabUnderTest) -> None:
    own = ["/root", "/tmp", "/usr/local/bin", "/var/lib", "/var/log", "/var/tmp", "/run", "/dev/shm"]
    marks = [f"{directory}/zclab-mark" for directory in own]
    lab.says(SENDER, "; ".join(f"echo mine > {mark}" for mark in marks))
    assert lab.says(SENDER, f"cat {' '.join(marks)}").split() == ["mine"] * len(own)
    assert lab.ssh(RECEIVER, f"cat {' '.join(marks)}").stdout == ""
    assert not any(Path(mark).exists() for mark in marks)
    setting = "/proc/sys/vm/overcommit_memory"
    for forbidden in ("touch /etc/zclab-mark", "touch /usr/bin/zclab-mark", f"cat {setting} > {setting}"):
        assert "Read-only file system" in lab.ssh(SENDER, forbidden).stderr
    assert machine() == lab.machine


def test_full_segments_cross_the_link_over_both_ip_versions(lab: LabUnderTest) -> None:
    for peer, payload in (("fd5a:6c61:62:1::2", 4168 - 48), ("198.18.1.2", 4148 - 28)):
        assert "1 received" in lab.says(SENDER, f"ping -c 1 -W 5 -M do -s {payload} {peer}")
        assert lab.ssh(SENDER, f"ping -c 1 -W 5 -M do -s {payload + 1} {peer}").returncode != 0


# ------------------------------------------------------------------------------------------------ measuring


def test_a_run_says_what_is_true_here(lab: LabUnderTest) -> None:
    done, document = lab.measure()
    assert (done.returncode, document["verdict"]) == (0, "pass"), str(done)
    assert "this machine's own" in done.stdout
    assert (document["kernel_variant"], document["artifact_key"]) == (None, None)
    for host in document["hosts"]:
        assert (host["kernel_release"], host["artifact_key"]) == (os.uname().release, None)
        assert host["nic"]["driver"] == "veth"
        assert {"net.core.rmem_max", "net.core.optmem_max"} <= set(host["sysctls"])
    assert {one["ip_version"] for one in document["measurements"]} == {4, 6}
    for one in document["measurements"]:
        assert one["mss"] == 4096, one["id"]
        if one["receive_mode"] != "copy":
            assert (one["mapped_fraction"] > 0.9) == (one["send_mode"] == "zerocopy"), one["id"]
        if one["completions"]:
            assert one["completions"]["copied"] == one["completions"]["completed"], one["id"]
        assert one["receiver_cpu"]["usec_per_mib"] > 0
        assert one["receiver_cpu"]["softirq_s"] is None  # of both hosts together, so of neither


@pytest.mark.parametrize(("redirect", "code"), [("| head -n 1", 0), (">/dev/full", 6)])
def test_a_run_does_not_depend_on_its_output(redirect: str, code: int, lab: LabUnderTest) -> None:
    """The measurements are made and kept all the same; nobody may have read a line of it."""
    began = lab.runs()
    script = f'"$@" {redirect}; exit "${{PIPESTATUS[0]}}"'
    zclab = str(Path(sys.executable).with_name("zclab"))
    done = subprocess.run(
        ["bash", "-c", script, "bash", zclab, "run", "--lab", str(lab.directory)],
        cwd=project_root(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    (name,) = lab.runs() - began
    found = query.find(name, pytest.fail)
    document = Run(found.directory, verdict.RUN).document()
    shutil.rmtree(found.directory)
    assert (document.verdict, document.exit_code) == ("pass", 0)
    assert len(document.measurements) - document.remeasured == 8
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr


#: A host, what is done to it, the reason that has to be given, and of which IP version's measurements.
FAULTS = [
    (RECEIVER, "ip link set data0 mtu 4160", "receiver1: MTU is 4160, the lab declares 4168", (4, 6)),
    (
        SENDER,
        "ip -4 route del 198.18.1.2/32 dev data0",
        "sender1: MTU of the route to 198.18.1.2 is that of the link, not 4148",
        (4,),
    ),
    (
        RECEIVER,
        "ip addr del 198.18.1.2/30 dev data0",
        "receiver1: lost its data address 198.18.1.2/30",
        (4, 6),
    ),
]


def test_a_planted_wrong_state_is_not_measured(lab: LabUnderTest) -> None:
    """The next test repairs it."""
    for host, fault, *_ in FAULTS:
        lab.says(host, fault)
    done, document = lab.measure()
    assert (done.returncode, document["verdict"]) == (4, "invalid"), str(done)
    for one in document["measurements"]:
        for *_, reason, versions in FAULTS:
            assert (reason in one["invalid_reasons"][0]) == (one["ip_version"] in versions), reason


def test_damage_is_healed(lab: LabUnderTest) -> None:
    """A namespace deleted with its link while something ran in it; a wrong sysctl at the other host."""
    lab.says(SENDER, "touch /root/of-the-old-host")
    with lab.remote(SENDER) as remote:
        pid = sleeper(remote)
        lab.says(RECEIVER, "sysctl -qw net.ipv4.tcp_timestamps=0")
        subprocess.run(["ip", "netns", "del", namespaces.namespace(lab.state_dir, SENDER)], check=True)
        assert not namespaces.ready(lab.state_dir, [SENDER, RECEIVER])
        assert "its network namespace" in lab.ssh(SENDER, "true").stderr
        changed = lab.up()
    assert not runs(pid)
    # The whole sender; of the receiver its new end of the link, and the sysctl.
    assert changed == {"localhost": 1, RECEIVER: 2, SENDER: 3}
    assert lab.ssh(SENDER, "ls /root/of-the-old-host").returncode != 0
    assert lab.says(RECEIVER, "cat /proc/sys/net/ipv4/tcp_timestamps") == "1"
    lab.says(SENDER, "ping -c 1 -W 5 fd5a:6c61:62:1::2")


def test_lab_tests_pass(lab: LabUnderTest) -> None:
    done = lab.run_tool("pytest", "-q", "-p", "no:cacheprovider", "lab_tests", "--lab", str(lab.directory))
    assert done.returncode == 0, done.stdout
    assert "machine's own kernel" in done.stdout  # skipped, and it says why
    run = re.search(r"run (\S+):", done.stdout)
    manifests = f"{run[1]}/manifest.json" if run else "*-namespaces-run-*/manifest.json"
    for manifest in runs_dir().glob(manifests):
        if json.loads(manifest.read_text(encoding="utf-8"))["plan"]["name"] == "short":
            shutil.rmtree(manifest.parent)


def test_a_killed_controller_leaves_nothing_running(lab: LabUnderTest) -> None:
    script = (
        "import sys, pathlib; from zclab.host.ssh import *\n"
        "remote = Remote('sender1', pathlib.Path(sys.argv[1]))\n"
        "process = remote.start('cat')\n"
        "print('runs', flush=True); process.wait(1000)"
    )
    before = hosts.processes(lab.state_dir, SENDER)
    command = [sys.executable, "-c", script, str(lab.state_dir / "ssh_config")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as controller:
        assert controller.stdout is not None and controller.stdout.readline() == "runs\n"
        assert hosts.processes(lab.state_dir, SENDER) > before
        controller.send_signal(signal.SIGKILL)
    wait_until("the SSH server ends", lambda: hosts.processes(lab.state_dir, SENDER) <= before)


def test_status_and_console(lab: LabUnderTest) -> None:
    assert re.search(r"^sender1: up, \d+ processes$", lab.zclab("status").stdout, re.MULTILINE)
    console = lab.zclab("console", SENDER)
    assert (console.returncode, len(console.stderr.splitlines())) == (2, 1)
    assert "its hosts have no console" in console.stderr


# ----------------------------------------------------------------------------------------------------- down


def test_down_leaves_no_trace_and_run_brings_it_up_again(lab: LabUnderTest) -> None:
    public = (lab.state_dir / "keys" / "id_ed25519.pub").read_text(encoding="utf-8")
    with lab.remote(RECEIVER) as remote:
        pid = sleeper(remote)
        done = lab.zclab("down")
    assert done.returncode == 0, str(done)
    assert not runs(pid)
    assert not any(status.running for status in namespaces.status(lab.state_dir, [SENDER, RECEIVER]))
    assert mounts_of(lab.state_dir) == []
    assert [path.name for path in lab.state_dir.iterdir()] == ["keys"]
    assert machine() == lab.machine
    assert namespaces.down(lab.state_dir) == []

    done, document = lab.measure()
    assert (done.returncode, document["verdict"]) == (0, "pass"), str(done)
    assert (lab.state_dir / "keys" / "id_ed25519.pub").read_text(encoding="utf-8") == public


def test_purge_removes_the_keys_too(lab: LabUnderTest) -> None:
    playbook = ["ansible-playbook", "-i", str(lab.directory), "playbooks/hosts_down.yml", "-e", "purge=true"]
    done = lab.run_tool(*playbook)
    assert done.returncode == 0, str(done)
    assert not lab.state_dir.exists()
    assert machine() == lab.machine


# ------------------------------------------------------------------------------- without playbooks: odd ends


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[hosts.LabSpec]:
    (tmp_path / "state").mkdir(mode=0o700)
    ends = (hosts.HostSpec("a", "data0", "b"), hosts.HostSpec("b", "other1", "a"))
    made = hosts.LabSpec((tmp_path / "state").resolve(), ends, {})
    yield made
    namespaces.down(made.state_dir)


def test_check_mode_says_what_would_be_done_and_does_nothing(spec: hosts.LabSpec) -> None:
    said = hosts.up(spec, check=True)
    assert [line.split(": ")[0] for line in said] == ["a", "b"]
    assert not any(status.running for status in namespaces.status(spec.state_dir, ["a", "b"]))
    assert not (spec.state_dir / "ssh_config").exists()
    hosts.up(spec)
    assert hosts.up(spec, check=True) == []


def facts_of(spec: hosts.LabSpec) -> str:
    """Return the resolved lab as `python -m zclab.backends.namespaces` reads it."""
    ends = [{"name": one.name, "data_interface": one.interface, "peer": one.peer} for one in spec.hosts]
    limits = {"machine_sysctls": spec.machine_sysctls}
    return json.dumps({"state_dir": str(spec.state_dir), "hosts": ends, "limits": limits})


@pytest.mark.parametrize("seconds", [0.02, 0.05, 0.1, 0.2])
def test_an_interrupted_up_is_finished_by_the_next(spec: hosts.LabSpec, seconds: float) -> None:
    command = [sys.executable, "-m", "zclab.backends.namespaces", "up"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as killed:
        assert killed.stdin is not None
        killed.stdin.write(facts_of(spec))
        killed.stdin.close()
        time.sleep(seconds)
        killed.kill()
    hosts.up(spec)
    assert hosts.up(spec) == []
    with Remote("b", spec.state_dir / "ssh_config") as remote:
        assert remote.output("ls /sys/class/net").split() == ["lo", "other1"]


def test_two_at_once_make_one_lab(spec: hosts.LabSpec) -> None:
    command = [sys.executable, "-m", "zclab.backends.namespaces", "up"]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [one.communicate(facts_of(spec), timeout=LIMIT)[0] for one in both]
    assert sorted(bool(json.loads(text)["changes"]) for text in said) == [False, True]
    assert hosts.up(spec) == []


def test_a_deleted_link_is_made_again(spec: hosts.LabSpec) -> None:
    hosts.up(spec)
    subprocess.run(
        ["ip", "-n", namespaces.namespace(spec.state_dir, "b"), "link", "del", "other1"], check=True
    )
    assert hosts.up(spec) == ["a: joined to b by a veth pair"]
    assert hosts.up(spec) == []


def test_damaged_files_of_a_host_are_written_again(spec: hosts.LabSpec) -> None:
    hosts.up(spec)
    (hosts.tree(spec.state_dir, "a") / "etc/ssh/authorized_keys").write_text("none\n", encoding="utf-8")
    shutil.rmtree(hosts.tree(spec.state_dir, "b") / "run")
    assert hosts.up(spec) == ["a: wrote its files", "b: wrote its files"]
    for name in ("a", "b"):
        with Remote(name, spec.state_dir / "ssh_config") as remote:
            assert remote.output("hostname") == f"{name}\n"


def test_two_labs_share_no_name(tmp_path: Path) -> None:
    assert namespaces.namespace(tmp_path / "a", "host") != namespaces.namespace(tmp_path / "b", "host")


def test_a_machine_that_is_not_fit(spec: hosts.LabSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = hosts.LabSpec(spec.state_dir, spec.hosts, {"net.core.rmem_max": 1 << 40})
    found = r"sysctl net.core.rmem_max is \d+, the lab needs 1099511627776: "
    with pytest.raises(LabError, match=found + "run `sudo sysctl -w net.core.rmem_max=1099511627776`"):
        hosts.up(wanted)
    unknown = hosts.LabSpec(spec.state_dir, spec.hosts, {"net.core.nosuch": 1})
    with pytest.raises(LabError, match=r"has no sysctl net\.core\.nosuch"):
        hosts.up(unknown)
    odd = hosts.LabSpec(spec.state_dir / "100%", spec.hosts, {})
    with pytest.raises(UsageError, match="'%' cannot be used in an ssh_config"):
        hosts.up(odd)
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "/usr/sbin/sshd" else program)
    with pytest.raises(LabError, match="sshd is not installed: install openssh-server, or run playb"):
        hosts.up(spec)
    assert not any(status.running for status in namespaces.status(spec.state_dir, ["a", "b"]))


def down_where_netns_is(spec: hosts.LabSpec, meanwhile: str) -> subprocess.CompletedProcess[str]:
    """Make a lab where nobody has a namespace yet, run `meanwhile`, and take the lab down.

    It all happens in a mount namespace of its own, with an empty /run on one file system as on most machines.
    """
    python = f"{shlex.quote(sys.executable)} -m zclab.backends.namespaces"
    script = (
        "set -e; mount --make-rprivate /; mount -t tmpfs none /run\n"
        f"{python} up <facts >up.json\n"
        f"{meanwhile}\n"
        f"{python} down <facts && test ! -e /run/netns"
    )
    (spec.state_dir / "facts").write_text(facts_of(spec), encoding="utf-8")
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=spec.state_dir,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_down_removes_the_directory_of_namespaces(spec: hosts.LabSpec) -> None:
    done = down_where_netns_is(spec, "test -d /run/netns")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["changes"] == ["a: removed", "b: removed"]


def test_a_host_writes_to_its_own_where_the_machine_has_file_systems(spec: hosts.LabSpec) -> None:
    """The machine's own stays read-only, be it mounted or not."""
    own = ("/run", "/var/log", "/dev/shm")
    write = "; ".join(f"echo mine >{directory}/zclab-mark" for directory in own)
    read = f"cat {' '.join(f'{directory}/zclab-mark' for directory in own)}"
    login = "ssh -F ssh_config -o ControlPath=none -o BatchMode=yes a"
    done = down_where_netns_is(
        spec,
        "mount -t tmpfs none /var/log; mount -t tmpfs none /mnt\n"
        f"{login} '{write}' && {login} '{read}; touch /mnt/zclab-mark' >../said 2>&1 || :\n"
        "test ! -e /run/zclab-mark && test ! -e /var/log/zclab-mark",
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = (spec.state_dir.parent / "said").read_text(encoding="utf-8")
    assert re.fullmatch(r"(mine\n){3}touch: .*'/mnt/zclab-mark': Read-only file system\n", said)


def test_down_says_what_holds_the_directory_of_namespaces(spec: hosts.LabSpec) -> None:
    done = down_where_netns_is(
        spec, "(cd /run/netns && exec sleep 20 >/dev/null 2>&1) & trap 'kill $!' EXIT; sleep 0.5"
    )
    assert done.returncode == LabError.exit_code
    assert re.fullmatch(
        r"/run/netns: in use by sleep \(process \d+\): end it, then take the lab down again\n", done.stderr
    )
