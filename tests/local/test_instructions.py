# SPDX-License-Identifier: Apache-2.0
"""Instructions counted by the emulator's plugin, in a guest without an operating system, and by symbols."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from zclab.backends.exact import instructions, plugin
from zclab.backends.exact.instructions import CONTEXTS, OTHER_PROGRAMS, Context, InstructionCounts, Names
from zclab.base.errors import LabError
from zclab.kernel import symbols
from zclab.kernel.symbols import Symbol, Symbols

GUEST = Path(__file__).resolve().parents[1] / "data" / "counted_guest.S"
#: The exit status that isa-debug-exit makes of the 1 that the guest writes to it at its end.
ENDED = 3
#: How a kernel calls what the plugin has to know.
KERNEL_NAMES = {"page_fault": "asm_exc_page_fault", "switch_to": "__switch_to_asm", "softirq": "__do_softirq"}


class Bare:
    """The guest, and its functions by address."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.image = directory / "bios.bin"
        program, unlinked = directory / "bios.elf", directory / "bios.o"
        commands: list[list[str | Path]] = [
            ["gcc", "-c", "-o", unlinked, GUEST],
            ["ld", "-Ttext=0x10000", "-e", "long_mode", "-o", program, unlinked],
            ["objcopy", "-O", "binary", program, self.image],
        ]
        for command in commands:
            subprocess.run(command, check=True)
        listed = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
        self.addresses = {name: int(where, 16) for where, _kind, name in map(str.split, listed.splitlines())}
        size = self.addresses["switch_end"] - self.addresses["switch_to"]
        self.symbols = Symbols(
            [
                Symbol(self.addresses[name], size if name == "switch_to" else 1, kernel_name)
                for name, kernel_name in KERNEL_NAMES.items()
            ]
        )

    def run(self, *options: str) -> int:
        """Run the guest and return the instructions between its marks by its clock."""
        clock = self.directory / "clock"
        clock.unlink(missing_ok=True)
        command = [
            *["qemu-system-x86_64", "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"],
            *["-machine", "pc", "-cpu", "max,-la57", "-m", "16", "-accel", "tcg,thread=single"],
            *["-icount", "shift=0,sleep=off", "-rtc", "base=2020-01-01,clock=vm", "-bios", str(self.image)],
            *["-debugcon", f"file:{clock}", "-device", "isa-debug-exit,iobase=0xf4", *options],
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == ENDED, done.stderr
        (found,) = struct.unpack("<Q", clock.read_bytes())
        return int(found)

    def count(self, kernel: Symbols) -> tuple[int, dict[str, InstructionCounts], list[str]]:
        """Run the guest with the plugin; return its clock, the counts of both windows, and the lines."""
        out = self.directory / "counts"
        elapsed = self.run(*plugin.option(plugin.build(), kernel, out))
        code = range(self.addresses["long_mode"], self.addresses["far_pointer"])
        counted = instructions.read(out, Names(kernel, {"bios": [code]}))
        return elapsed, {window.role: window.counts for window in counted}, out.read_text().splitlines()


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    return Bare(tmp_path_factory.mktemp("bare"))


def test_the_sum_is_the_guests_own_clock_and_the_guest_is_as_without_the_plugin(bare: Bare) -> None:
    """REP, faults, devices, code that changes, interrupts: each instruction counts as the clock counts it."""
    elapsed, windows, _ = bare.count(bare.symbols)
    assert windows["receiver"].total == elapsed == bare.run()
    assert windows["sender"].total == 818


def test_each_instruction_counts_as_often_as_it_was_executed(bare: Bare) -> None:
    """A REP once for each iteration and once for its end; what faulted and was begun again once."""
    at: dict[int, int] = {}
    for line in bare.count(bare.symbols)[2]:
        if line.startswith("window"):
            at = {}
        elif not line.startswith("end"):
            _, count, begin, sizes = line.split()
            address = int(begin, 16)
            for size in sizes:
                at[address] = at.get(address, 0) + int(count)
                address += int(size, 16)
    found = {
        name: at[bare.addresses[name]] for name in ("many", "moved", "filled", "mid_fault", "device_read")
    }
    assert found == {"many": 3000, "moved": 101, "filled": 201, "mid_fault": 1, "device_read": 1}
    names = ("call_fault", "ret_fault", "far_call", "again", "changed", "across", "page_fault")
    faults = {name: at[bare.addresses[name]] for name in names}
    assert faults.pop("page_fault") == 8
    assert faults == {name: 3 if name in ("again", "changed") else 1 for name in faults}


def test_a_fault_that_is_not_known_as_one_is_seen_in_the_sum(bare: Bare) -> None:
    """Planted: the handler is said to be elsewhere. Five instructions faulted, of eight page faults."""
    other = [
        Symbol(0x500000, 1, one.name) if one.name == "asm_exc_page_fault" else one
        for one in map(bare.symbols.named, KERNEL_NAMES.values())
        if one
    ]
    elapsed, windows, _ = bare.count(Symbols(other))
    assert windows["receiver"].total == elapsed + 5


def test_contexts_are_threads_by_their_stacks_and_softirqs(bare: Bare) -> None:
    _, windows, _ = bare.count(bare.symbols)
    found: dict[str, dict[Context, int]] = {}
    for role, counts in windows.items():
        by_context = found.setdefault(role, dict.fromkeys(CONTEXTS, 0))
        for one in counts.functions.values():
            for context, count in one.items():
                by_context[context] += count
    assert found["receiver"]["softirq"] == 702  # mov, 700 turns, ret
    # Before the other thread opens its window, and from the mark that closes it on, it is any thread.
    assert found["receiver"]["other"] == 5 + 3
    # Mark, mov, 500 turns, what leads to the switch, and the switch itself, which is the next thread's.
    assert found["sender"] == {"sender": 502 + 3 + 5, "receiver": 5 + 301 + 2, "softirq": 0, "other": 0}
    assert found["receiver"]["sender"] == found["sender"]["sender"]


def test_a_kernel_without_what_the_plugin_has_to_know_is_refused(bare: Bare) -> None:
    with pytest.raises(LabError, match="the kernel has no asm_exc_page_fault, __switch_to_asm"):
        plugin.option(Path("x"), Symbols([Symbol(1, 1, "__do_softirq")]), bare.directory / "counts")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-plugin", "{plugin}"], "out=FILE is missing"),
        (["-plugin", "{plugin},out={out},depth=3"], "depth=3: no such option"),
        (["-plugin", "{plugin},out={out},fault=nowhere"], "fault=nowhere: no such option, or not its form"),
        (["-plugin", "{plugin},out={out}", "-smp", "2"], "one CPU only"),
        (["-plugin", "{plugin},out={out}/none/here"], "No such file or directory"),
    ],
)
def test_what_the_plugin_cannot_do_ends_the_emulator_with_one_line(
    bare: Bare, tmp_path: Path, more: list[str], said: str
) -> None:
    given = [one.format(plugin=plugin.build(), out=tmp_path / "counts") for one in more]
    command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-bios", str(bare.image), *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert said in done.stderr and done.stderr.startswith("instructions plugin: "), done.stderr


def test_a_full_disk_ends_the_emulator_with_one_line(bare: Bare) -> None:
    command = plugin.option(plugin.build(), bare.symbols, Path("/dev/full"))
    with pytest.raises(AssertionError, match="cannot write the counts: No space left on device"):
        bare.run(*command)


def test_the_code_of_a_static_program_lies_where_it_was_linked_to(tmp_path: Path, bare: Bare) -> None:
    (code,) = symbols.code_of(bare.directory / "bios.elf")
    assert code.start <= 0x10000 and code.stop == 0x20000
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert symbols.code_of(Path("/bin/sh")) == symbols.code_of(tmp_path / "script") == []


KERNEL = """
.globl public, asm_entry
.type public, @function
.type _alias, @function
.type after, @function
public: _alias: nop; nop
inner_label: nop
.size public, 3
.size _alias, 3
nop; nop
loose_label: nop
after: ret
.size after, 1
"""


def test_functions_of_a_kernel_are_found_by_address(tmp_path: Path) -> None:
    """A label within a function does not begin another; one outside names what follows it."""
    (tmp_path / "k.S").write_text(KERNEL)
    subprocess.run(["gcc", "-c", "-o", tmp_path / "k.o", tmp_path / "k.S"], check=True)
    link = ["ld", "-Ttext=0xffffffff81000000", "-e", "public"]
    subprocess.run([*link, "-o", tmp_path / "vmlinux", tmp_path / "k.o"], check=True)
    kernel = symbols.of_kernel(tmp_path / "vmlinux")
    begin = 0xFFFFFFFF81000000
    names = [kernel.name_of(begin + at) for at in range(7)]
    assert names == [*["public"] * 3, *["inner_label"] * 2, "loose_label", "after"]
    assert kernel.name_of(begin - 1) is None is kernel.name_of(begin + 0x40000000)
    assert kernel.named("after") == Symbol(begin + 6, 1, "after")
    assert Names(kernel, {}).of(begin + 1) == "public"
    assert Names(kernel, {}).of(0x400000) == OTHER_PROGRAMS


def test_a_file_that_is_no_kernel_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="/bin/sh: has no symbols of a kernel"):
        symbols.of_kernel(Path("/bin/sh"))
    with pytest.raises(LabError, match="readelf cannot read it"):
        symbols.of_kernel(tmp_path / "none")
