# SPDX-License-Identifier: Apache-2.0
"""Integrity: every byte is looked at where it was received, and each planted fault is found."""

from __future__ import annotations

import itertools
import socket
import subprocess
from pathlib import Path

import pytest
from tests.traffic_lab import TOKEN, TRAFFIC, Lab, connect_as_sender, veth_transfer

RECEIVE_MODES = ("copy", "map_once", "map_once_hybrid")
SIZE = 8 * 2**20 + 5

PROGRAM = r"""
#include "verify.h"
#include <stdio.h>
#include <string.h>

#define CHECK(what) do { if (!(what)) { printf("line %d: %s\n", __LINE__, #what); return 1; } } while (0)

enum { SIZE = 65536 };
static unsigned char good[SIZE], bad[SIZE + 64];

/* The first wrong offset of `bad`, which claims to lie at stream offset `offset`; -1: none. */
static long wrong(uint64_t offset, size_t length)
{
    struct integrity found = {.stream = 3};

    verify_check(&found, bad, length, offset, true);
    if (!found.mismatch)
        return -1;
    if (found.found != bad[found.offset - offset] || found.expected == found.found || !found.mapped)
        return -2;
    return (long)(found.offset - offset);
}

int main(void)
{
    const uint64_t far = (UINT64_C(1) << 40) + 3;
    struct integrity twice = {.stream = 3};

    verify_fill(good, SIZE, 3, 0);
    for (size_t offset = 0; offset < 32; offset++) /* in pieces of any size, at any offset */
        for (size_t length = 0; length < 64; length++) {
            verify_fill(bad, length, 3, offset);
            CHECK(!memcmp(bad, good + offset, length) && wrong(offset, length) == -1);
        }
    verify_fill(bad, SIZE, 3, far);
    CHECK(wrong(far, SIZE) == -1);
    CHECK(wrong(far - (UINT64_C(1) << 32), SIZE) >= 0); /* a stretch of 4 GiB left out */
    for (int bit = 0; bit < 64 * 8; bit++) { /* every single flipped bit, at its place */
        memcpy(bad, good + 5, 64);
        bad[bit / 8] ^= 1 << bit % 8;
        CHECK(wrong(5, 64) == bit / 8);
    }
    for (int shift = 1; shift < 64; shift++) { /* too far on, or a piece sent twice */
        memcpy(bad, good + shift, SIZE - 64);
        CHECK(wrong(0, SIZE - 64) >= 0 && wrong(0, SIZE - 64) < 8);
    }
    for (int other = 1; other < SIZE / 8; other++) { /* any two words that changed places */
        memcpy(bad, good, SIZE);
        memcpy(bad, good + other * 8, 8);
        memcpy(bad + other * 8, good, 8);
        CHECK(wrong(0, SIZE) >= 0 && wrong(0, SIZE) < 8);
    }
    verify_fill(bad, SIZE, 4, 0); /* the other stream's */
    CHECK(wrong(0, SIZE) >= 0 && wrong(0, SIZE) < 8);
    memset(bad, 0, SIZE);
    CHECK(wrong(0, SIZE) >= 0 && wrong(0, SIZE) < 8);

    memcpy(bad, good, 100);
    bad[70] ^= 1;
    verify_check(&twice, bad, 100, 0, false);
    verify_check(&twice, bad, 50, 500, true); /* the first one stays */
    CHECK(twice.mismatch && twice.offset == 70 && !twice.mapped && twice.checked == 150);
    return 0;
}
"""


def test_positions(tmp_path: Path) -> None:
    source, program = tmp_path / "positions.c", tmp_path / "positions"
    source.write_text(PROGRAM)
    flags = [
        "-std=c11",
        "-D_GNU_SOURCE",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-O1",
        "-fsanitize=address,undefined",
    ]
    files = ["-I", str(TRAFFIC), str(source), str(TRAFFIC / "verify.c"), "-o", str(program)]
    built = subprocess.run(["cc", *flags, *files], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("build", "receive_mode", "send_mode"),
    list(itertools.product(("normal", "sanitize"), RECEIVE_MODES, ("copy", "zerocopy"))),
)
@pytest.mark.parametrize("kind", ["bytes", "seconds"])
def test_every_byte_is_checked(
    lab: Lab, binaries: dict[str, str], build: str, receive_mode: str, send_mode: str, kind: str
) -> None:
    """Buffers go round many times: each is written anew for its new place."""
    lab.binary = binaries[build]
    length = f"--bytes {SIZE} --verify" if kind == "bytes" else "--warmup 0.05 --seconds 0.15 --verify"
    receiver = lab.receive(options=length, mode=receive_mode)
    framing = "--message-bytes 10000 --header-bytes 7 --inflight-bytes 40000"
    sent, got = lab.send(receiver, f"{length} {framing}", mode=send_mode).finish(), receiver.finish()

    assert (sent["outcome"], got["outcome"]) == ("complete", "complete"), (sent["error"], got["error"])
    assert got["integrity"] == {"checked_bytes": got["total"]["bytes"], "mismatch": None}
    assert sent["integrity"] == {"reused_early": 0}
    assert got["total"]["bytes"] == sent["total"]["bytes"] > 10 * 40000


def test_every_stream_has_its_own_positions(veth: Lab) -> None:
    """The wrong byte is stream 0's alone; the others are checked to their end, too."""
    size = 48 * 2**20
    for plant in ("", " --inject-wrong-byte 8388613"):
        sent, got = veth_transfer(
            veth,
            f"--bytes {size} --streams 3 --rcvlowat 524288 --verify",
            f"--bytes {size} --streams 3 --message-bytes 524288 --verify{plant}",
            ("map_once", "zerocopy"),
        )
        assert sent["outcome"] == "complete", sent["error"]
        assert got["integrity"]["checked_bytes"] == got["total"]["bytes"] == size
        if plant:
            found = got["integrity"]["mismatch"]
            assert got["outcome"] == "error" and "in stream 0 at offset 8388613:" in got["error"]
            assert (found["stream"], found["offset"], found["mapped"]) == (0, 8388613, True)
        else:
            assert (got["outcome"], got["integrity"]["mismatch"]) == ("complete", None)


def test_early_reuse_of_one_stream_of_several(lab: Lab) -> None:
    length = f"--bytes {3 * SIZE} --streams 3 --verify"
    receiver = lab.receive(options=length)
    options = f"{length} --message-bytes 10000 --inject-early-reuse"
    sent, got = lab.send(receiver, options, mode="zerocopy").finish(), receiver.finish()
    assert (sent["outcome"], sent["integrity"]) == ("error", {"reused_early": 1})
    assert got["outcome"] == "error" and got["integrity"]["mismatch"]["stream"] == 0
    assert got["integrity"]["checked_bytes"] == 3 * SIZE


def test_nothing_is_checked_unasked(lab: Lab) -> None:
    receiver = lab.receive(options="--bytes 1000000")
    sent, got = lab.send(receiver, "--bytes 1000000").finish(), receiver.finish()
    assert sent["integrity"] is got["integrity"] is None
    assert sent["outcome"] == got["outcome"] == "complete"


@pytest.mark.parametrize("mode", RECEIVE_MODES)
@pytest.mark.parametrize("offset", [0, 4095, 5000013, SIZE - 1])
def test_wrong_byte_is_located(lab: Lab, mode: str, offset: int) -> None:
    """The stream is read to its end all the same: the sender ends in order."""
    receiver = lab.receive(options=f"--bytes {SIZE} --verify", mode=mode)
    sent = lab.send(receiver, f"--bytes {SIZE} --verify --inject-wrong-byte {offset}").finish()
    got = receiver.finish()

    found = got["integrity"]["mismatch"]
    assert (sent["outcome"], got["outcome"]) == ("complete", "error")
    assert (found["stream"], found["offset"], found["mapped"]) == (0, offset, False)
    assert found["found"] == found["expected"] ^ 0xFF
    assert f"offset {offset}:" in got["error"] and "copied" in got["error"]
    assert receiver.stderr.count("\n") == 2, "one line beside the readiness line"
    assert got["integrity"]["checked_bytes"] == SIZE
    assert got["window"]["complete"] is True


def test_wrong_byte_is_located_in_a_timed_window(lab: Lab) -> None:
    length = "--seconds 0.3 --verify"
    receiver = lab.receive(options=length, mode="map_once")
    sent = lab.send(receiver, f"{length} --inject-wrong-byte 1234567").finish()
    got = receiver.finish()
    assert (sent["outcome"], got["outcome"]) == ("complete", "error")
    assert got["integrity"]["mismatch"]["offset"] == 1234567
    assert got["integrity"]["checked_bytes"] == got["total"]["bytes"] == sent["total"]["bytes"]


def test_wrong_byte_in_a_header_is_located(lab: Lab) -> None:
    receiver = lab.receive(options=f"--bytes {SIZE} --verify")
    options = "--header-bytes 100 --message-bytes 4096 --inject-wrong-byte 4250"  # the second header
    lab.send(receiver, f"--bytes {SIZE} --verify {options}", mode="zerocopy").finish()
    assert receiver.finish()["integrity"]["mismatch"]["offset"] == 4250


@pytest.mark.parametrize("mode", ["map_once", "map_once_hybrid"])
@pytest.mark.parametrize("build", ["normal", "sanitize"])
def test_mapped_bytes_are_checked_in_place(
    veth: Lab, binaries: dict[str, str], mode: str, build: str
) -> None:
    veth.binary = binaries[build]
    size, wrong = 64 * 2**20, 33 * 2**20 + 5
    for plant in ("", f" --inject-wrong-byte {wrong}"):
        sent, got = veth_transfer(
            veth,
            f"--bytes {size} --rcvlowat 524288 --verify",
            f"--bytes {size} --message-bytes 524288 --verify{plant}",
            (mode, "zerocopy"),
        )
        assert got["total"]["mapped_bytes"] > 0.99 * size
        assert got["integrity"]["checked_bytes"] == size
        assert sent["outcome"] == "complete"
        if plant:
            found = got["integrity"]["mismatch"]
            assert got["outcome"] == "error" and "mapped" in got["error"]
            assert (found["offset"], found["mapped"]) == (wrong, True)
        else:
            assert (got["outcome"], got["integrity"]["mismatch"]) == ("complete", None)


@pytest.mark.parametrize("kind", ["bytes", "seconds"])
def test_early_reuse_is_caught_at_both_ends(lab: Lab, kind: str) -> None:
    """The cork holds the first message back, so its bytes are still the buffer's when that is overwritten."""
    length = f"--bytes {SIZE} --verify" if kind == "bytes" else "--seconds 0.3 --verify"
    receiver = lab.receive(options=length)
    options = f"{length} --message-bytes 10000 --inject-early-reuse"
    sent, got = lab.send(receiver, options, mode="zerocopy").finish(), receiver.finish()

    assert sent["outcome"] == "error" and "before its completion" in sent["error"]
    assert "at offset 10000" in sent["error"]
    assert sent["integrity"] == {"reused_early": 1}
    assert sent["completions"]["sends"] == sent["completions"]["completed"]
    assert got["outcome"] == "error"
    assert got["integrity"]["mismatch"]["offset"] < 10000


def test_early_reuse_is_caught_in_the_mapping(veth: Lab) -> None:
    """The second page's worth of the first message fills no segment and waits under the cork."""
    sent, got = veth_transfer(
        veth,
        f"--bytes {SIZE} --rcvlowat 524288 --verify",
        f"--bytes {SIZE} --message-bytes 6000 --verify --inject-early-reuse",
        ("map_once", "zerocopy"),
    )
    assert (sent["outcome"], sent["integrity"]) == ("error", {"reused_early": 1})
    assert got["integrity"]["mismatch"]["offset"] < 6000
    assert got["integrity"]["mismatch"]["mapped"] is True


def test_early_reuse_is_in_the_senders_account_even_if_it_did_no_harm(veth: Lab) -> None:
    """Nobody looks at the bytes, or the kernel had copied them already."""
    sent, got = veth_transfer(
        veth,
        "--bytes 33554432",
        "--bytes 33554432 --message-bytes 524288 --verify --inject-early-reuse",
        ("copy", "zerocopy"),
    )
    assert (sent["outcome"], sent["integrity"]) == ("error", {"reused_early": 1})
    assert got["outcome"] == "complete"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--seconds 0.05 --pace-gbit 0.001 --inject-wrong-byte 1000000000000", "--inject-wrong-byte"),
        ("--bytes 10000 --inject-early-reuse", "--inject-early-reuse"),
    ],
)
def test_fault_that_was_not_planted_is_no_pass(lab: Lab, options: str, named: str) -> None:
    receiver = lab.receive(options="--seconds 0.01 --verify")
    sent = lab.send(receiver, f"{options} --verify --message-bytes 10000", mode="zerocopy").finish()
    receiver.finish()
    assert sent["outcome"] == "error" and named in sent["error"]
    assert sent["integrity"] == {"reused_early": 0}


def test_sender_without_positions(lab: Lab) -> None:
    receiver = lab.receive(options="--bytes 1000000 --verify")
    assert lab.send(receiver, "--bytes 1000000").finish()["outcome"] == "complete"
    got = receiver.finish()
    assert got["outcome"] == "error" and "has the sender --verify?" in got["error"]
    assert got["integrity"]["mismatch"]["offset"] < 8


@pytest.mark.parametrize("mode", RECEIVE_MODES)
def test_garbage_in_place_of_payload(lab: Lab, mode: str) -> None:
    receiver = lab.receive(options="--bytes 1000000 --verify", mode=mode)
    with connect_as_sender(receiver) as client:
        client.sendall(b"GET / HTTP/1.1\r\n" * 62500)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    got = receiver.finish()
    assert got["outcome"] == "error" and "wrong byte in stream 0 at offset" in got["error"]
    assert got["total"]["bytes"] == 1000000


SEND = f"send --bind ::1 --peer ::1 --port 9 --token {TOKEN} --message-bytes 4096"
RECEIVE = f"receive --bind ::1 --peer ::1 --token {TOKEN}"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (f"{SEND} --mode copy --seconds 1 --inject-wrong-byte 5", "--inject-wrong-byte"),
        (f"{SEND} --mode copy --seconds 1 --verify --inject-wrong-byte x", "--inject-wrong-byte"),
        (f"{SEND} --mode copy --bytes 100 --verify --inject-wrong-byte 100", "--inject-wrong-byte"),
        (f"{SEND} --mode zerocopy --seconds 1 --inject-early-reuse", "--inject-early-reuse"),
        (f"{SEND} --mode copy --seconds 1 --verify --inject-early-reuse", "--inject-early-reuse"),
        (f"{RECEIVE} --mode copy --seconds 1 --inject-wrong-byte 5", "--inject-wrong-byte"),
        (f"{RECEIVE} --mode copy --seconds 1 --inject-early-reuse", "--inject-early-reuse"),
        (f"{RECEIVE} --mode map_once --seconds 1 --header-bytes 5 --message-bytes 5", "--header-bytes"),
        (f"{RECEIVE} --mode map_once --seconds 1 --message-bytes 5", "--message-bytes"),
        (f"{RECEIVE} --mode map_each --seconds 1 --header-bytes 5", "--message-bytes"),
        (f"{SEND} --mode copy --seconds 1 --header-bytes 0", "--header-bytes"),
    ],
)
def test_bad_command_line_is_one_line(binary: str, arguments: str, named: str) -> None:
    done = subprocess.run([binary, *arguments.split()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert named in done.stderr
