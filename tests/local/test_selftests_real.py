# SPDX-License-Identifier: Apache-2.0
"""Running and building the kernel's own tests for real: on this machine, from a tree of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import kernel_fake
from tests.ssh_server import SshServer

from zclab.base.errors import UsageError
from zclab.host.ssh import Completed, Remote
from zclab.kernel.spec import KernelVariant, PatchFile
from zclab.suites.selftests import build, run, table
from zclab.suites.selftests import output as reading
from zclab.suites.selftests.table import Selftest

LIMIT = 30
root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="namespaces need root and ip")
OPTMEM = Path("/proc/sys/net/core/optmem_max")
Run = Callable[[str], Completed]


def quiet(line: str) -> None:
    """Take what is reported, for nobody."""


# ---------------------------------------------------------------------------------------------- they are run


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """A host that is this machine, with a directory of tests of its own."""
    (tmp_path / "tests").mkdir()
    monkeypatch.setattr(run, "DIRECTORY", str(tmp_path / "tests"))
    server = SshServer(tmp_path)
    with Remote("host1", server.ssh_config) as opened:
        yield opened
    server.close()


def planted(script: str, seconds: int = LIMIT, *, host_network: bool = False) -> Selftest:
    """Write a test into the directory, and return it."""
    path = Path(run.DIRECTORY) / "planted"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return Selftest("planted", "", "./planted", (), host_network=host_network, seconds=seconds)


def namespaces() -> str:
    return subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout


def running(mark: str) -> bool:
    """Whether a process with this word in its arguments is there."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False


def gone(mark: str) -> bool:
    """Wait until no process has this word in its arguments; whether that came."""
    end = time.monotonic() + LIMIT
    while running(mark) and time.monotonic() < end:
        time.sleep(0.05)
    return not running(mark)


@root
def test_output_and_exit_status_come_back(remote: Remote) -> None:
    test = planted("echo one; echo two >&2; exit 3")
    done = remote.run(run.command(test), LIMIT)
    assert (done.status, done.stdout) == (3, "one\ntwo\n")
    assert reading.read(test, done.status, done.stdout, set()).reason == "exit status 3: two"


@root
@pytest.mark.parametrize("host_network", [False, True])
def test_what_a_test_leaves_is_gone(remote: Remote, host_network: bool) -> None:
    """Namespaces, processes and the limit that is of the whole machine: it cleans up nothing itself."""
    before, names, mark = OPTMEM.read_text(), namespaces(), f"31{os.getpid()}"
    test = planted(
        f"""
        ip netns add left-behind || exit 1
        ip -netns left-behind link set lo up || exit 1
        sleep {mark} >/dev/null 2>&1 &
        [ -w {OPTMEM} ] && echo {int(before) + 4096} >{OPTMEM}
        ip netns
        """,
        host_network=host_network,
    )
    done = remote.run(run.command(test), LIMIT)
    assert (done.status, done.stdout) == (0, "left-behind\n")
    assert gone(mark)
    assert (OPTMEM.read_text(), namespaces()) == (before, names)


@root
def test_its_network_is_its_own_and_loopback_is_up(remote: Remote) -> None:
    done = remote.run(run.command(planted("ip -o link | wc -l; ip -o link show up dev lo | wc -l")), LIMIT)
    assert done.stdout.split() == ["1", "1"]


@root
def test_a_test_without_end_is_ended(remote: Remote) -> None:
    """It and all that it started end, what it printed is there, and the result names the limit."""
    mark = f"32{os.getpid()}"
    test = planted(f"trap '' TERM; echo began; sleep {mark} & wait", seconds=1)
    done = remote.run(run.command(test), LIMIT)
    found = reading.read(test, done.status, done.stdout, set())
    assert (found.result, found.reason) == ("fail", "no end within 1 s")
    assert "began" in done.stdout
    assert gone(mark)


@root
def test_a_test_ends_with_its_channel(remote: Remote) -> None:
    mark, before = f"33{os.getpid()}", OPTMEM.read_text()
    process = remote.start(run.command(planted(f"echo began; sleep {mark}")))
    assert next(iter(process.lines(LIMIT))) == "began"
    process.close()
    assert gone(mark)
    assert OPTMEM.read_text() == before


# --------------------------------------------------------------------------------------------- they are built

PROGRAM = '#include <stdio.h>\n#include "kselftest.h"\nint main(void) { puts(WORD); return 0; }\n'
NET = "tools/testing/selftests/net"
PATCH = f"""\
--- a/{NET}/tcp_inq.c
+++ b/{NET}/tcp_inq.c
@@ -1,3 +1,3 @@
 #include <stdio.h>
 #include "kselftest.h"
-int main(void) {{ puts(WORD); return 0; }}
+int main(void) {{ puts("patched"); return 0; }}
--- a/{NET}/mptcp/other.c
+++ b/{NET}/mptcp/other.c
@@ -1 +1 @@
-old
+new
"""


SCRIPT = "#!/bin/sh\n\t$0 4 tcp -t 1\n\t$0 6 udp -t 1\n\tsleep 0.2\n\t$0 4 tcp -t 1 x\n"


@pytest.fixture
def variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelVariant:
    """A variant of a tree with some of the tests, one of which does not compile."""
    monkeypatch.setenv("ZCLAB_CACHE", str(tmp_path / "cache"))
    files = {
        "tools/testing/selftests/kselftest.h": '#define WORD "of the tree"\n',
        f"{NET}/tcp_inq.c": PROGRAM,
        f"{NET}/tcp_mmap.c": "#define FILE_SZ (1ULL << 35)\n#include <stdio.h>\n"
        'int main(void) { printf("%llu\\n", FILE_SZ >> 20); return 0; }\n',
        f"{NET}/tls.c": "int main(void) { return nosuch; }\n",
        f"{NET}/msg_zerocopy.sh": SCRIPT,
        f"{NET}/run_afpackettests": "#!/bin/sh\n",
        f"{NET}/mptcp/other.c": "old\n",
    }
    return KernelVariant(source=kernel_fake.tarball_of(tmp_path, files))


def output(built: build.Built, name: str) -> str:
    (file,) = [path for path in built.files if path.name == name]
    return subprocess.run([str(file)], capture_output=True, text=True, check=True).stdout


def test_they_are_of_the_tree(variant: KernelVariant) -> None:
    built = build.build(variant, quiet)
    assert output(built, "tcp_inq") == "of the tree\n"
    assert output(built, "tcp_mmap") == f"{table.TOTAL_MIB}\n"
    assert {path.name for path in built.files} == {
        "tcp_inq",
        "tcp_mmap",
        "msg_zerocopy.sh",
        "run_afpackettests",
    }
    assert "tls does not compile (tools/testing/selftests/net/tls.c:1" in built.missing["tls"]
    assert "has no tools/testing/selftests/net/psock_fanout.c" in built.missing["psock_fanout"]
    assert built.missing["in_netns.sh"] == "the tree has no tools/testing/selftests/net/in_netns.sh"


def test_what_is_changed_is_told(variant: KernelVariant) -> None:
    built = build.build(variant, quiet)
    assert built.changed == {
        "tcp_mmap": "tcp_mmap sends 256 MiB instead of 32 GiB",
        "msg_zerocopy.sh": "msg_zerocopy.sh waits 0.7 s instead of 0.2 s for its receiver, "
        "its receivers wait for 2 s, as by default, instead of 1 s",
    }
    (script,) = [path for path in built.files if path.name == "msg_zerocopy.sh"]
    assert script.read_text() == "#!/bin/sh\n\t$0 4 tcp\n\t$0 6 udp\n\tsleep 0.7\n\t$0 4 tcp -t 1 x\n"


def test_they_are_built_once(variant: KernelVariant) -> None:
    said: list[str] = []
    first = build.build(variant, said.append)
    made = [path.stat().st_mtime_ns for path in first.files]
    said.clear()
    second = build.build(variant, said.append)
    assert (second, said) == (first, [])
    assert [path.stat().st_mtime_ns for path in second.files] == made


def test_a_patch_of_the_tests_is_in_them(variant: KernelVariant, tmp_path: Path) -> None:
    """Of a patch only what concerns the tests is applied: the rest of the tree is not there."""
    plain = build.build(variant, quiet)
    patch = tmp_path / "one.patch"
    patch.write_text(PATCH, encoding="utf-8")
    patched = build.build(variant.model_copy(update={"patches": (PatchFile(file=str(patch)),)}), quiet)
    assert output(patched, "tcp_inq") == "patched\n"
    assert "one.patch" in patched.tree
    patch.write_text(PATCH[PATCH.index(f"--- a/{NET}/mptcp") :], encoding="utf-8")
    other = build.build(variant.model_copy(update={"patches": (PatchFile(file=str(patch)),)}), quiet)
    assert other == plain


def test_a_patch_that_does_not_apply(variant: KernelVariant, tmp_path: Path) -> None:
    patch = tmp_path / "bad.patch"
    patch.write_text(PATCH.replace("puts(WORD)", "puts(OTHER)"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"bad\.patch does not apply to the kernel's own tests") as caught:
        build.build(variant.model_copy(update={"patches": (PatchFile(file=str(patch)),)}), quiet)
    assert len(str(caught.value).splitlines()) == 1
    assert list((tmp_path / "cache" / "selftests").iterdir()) == []


def test_a_line_that_is_to_be_changed_and_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZCLAB_CACHE", str(tmp_path / "cache"))
    files = {f"{NET}/tcp_mmap.c": "#define FILE_SZ 7\nint main(void) { return 0; }\n"}
    built = build.build(KernelVariant(source=kernel_fake.tarball_of(tmp_path, files)), quiet)
    assert "tcp_mmap.c of the tree has no line #define FILE_SZ" in built.missing["tcp_mmap"]
    assert built.changed == {}
