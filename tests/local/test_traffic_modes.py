# SPDX-License-Identifier: Apache-2.0
"""How bytes are taken off the socket: mapped or copied and why, framed or not, and what bad input gets."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tests.traffic_lab import TOKEN, TRAFFIC, Document, Lab, connect_as_sender, hello, run, veth_transfer

DATA = Path(__file__).parents[1] / "data"
WRAPPED = ("mmap", "munmap", "recv", "ioctl", "getsockopt", "fopen")
CAUSES = ["short_segment", "unaligned", "compound_page", "less_than_page", "urgent", "refused", "unknown"]
RECEIVER, SENDER = "fd00:7a63::1", "fd00:7a63::2"


def test_modes_on_a_made_up_socket(tmp_path: Path) -> None:
    program = tmp_path / "receive_modes_test"
    sources = [str(path) for path in sorted(TRAFFIC.glob("*.c")) if path.name != "main.c"]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", "-fsanitize=address,undefined"]
    wrap = [f"-Wl,--wrap={name}" for name in WRAPPED]
    files = ["-I", str(TRAFFIC), str(DATA / "receive_modes_test.c"), *sources, "-pthread", "-o", str(program)]
    built = subprocess.run(["cc", *flags, *wrap, *files], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_map_each_is_refused_where_mmap_does_not_consume(lab: Lab, binary: str) -> None:
    setting = Path("/proc/sys/net/ipv4/tcp_mmap_consume")
    if setting.exists() and setting.read_text().strip() == "1":
        pytest.skip("this kernel's mmap() of a TCP socket consumes")
    own = f"receive --bind ::1 --peer ::1 --token {TOKEN} --mode map_each --seconds 1"
    end = lab.start([binary, *own.split()])
    got = end.finish()
    assert got["outcome"] == "unsupported"
    assert "net.ipv4.tcp_mmap_consume" in got["error"]
    assert "listening" not in end.stderr and end.stderr.count("\n") == 1


# Why bytes were not mapped


def causes(got: Document) -> dict[str, int]:
    """Return the causes that occurred; all of them account for every copied byte of the window."""
    unmapped: dict[str, int] = got["unmapped"]
    assert list(unmapped) == CAUSES
    assert sum(unmapped.values()) == got["window"]["copied_bytes"]
    return {name: count for name, count in unmapped.items() if count}


def test_causes_are_null_where_nothing_is_mapped(lab: Lab) -> None:
    receiver = lab.receive(options="--bytes 1000000")
    sent, got = lab.send(receiver, "--bytes 1000000").finish(), receiver.finish()
    assert sent["unmapped"] is got["unmapped"] is None


@pytest.mark.parametrize("mode", ["map_once", "map_once_hybrid"])
@pytest.mark.parametrize("streams", [1, 3])
def test_causes_of_a_window_by_time(lab: Lab, mode: str, streams: int) -> None:
    length = f"--warmup 0.05 --seconds 0.2 --streams {streams}"
    receiver = lab.receive(options=length, mode=mode)
    lab.send(receiver, length).finish()
    assert causes(receiver.finish())


def test_copying_sender_gives_compound_pages(veth: Lab) -> None:
    _, got = veth_transfer(
        veth, "--bytes 33554432 --rcvlowat 524288", "--bytes 33554432", ("map_once", "copy")
    )
    assert got["total"]["mapped_bytes"] == 0
    assert causes(got)["compound_page"] >= 0.95 * 33554432


def test_zerocopy_sender_of_whole_pages_leaves_no_cause(veth: Lab) -> None:
    sent, got = veth_transfer(
        veth,
        "--bytes 67108864 --rcvlowat 524288",
        "--bytes 67108864 --message-bytes 524288",
        ("map_once", "zerocopy"),
    )
    assert sent["outcome"] == got["outcome"] == "complete"
    assert sum(causes(got).values()) < 0.01 * 67108864


@pytest.mark.parametrize(("send", "mode"), [("copy", "copy"), ("zerocopy", "map_once")])
def test_what_is_kept_has_memory_of_its_own(veth: Lab, send: str, mode: str) -> None:
    """Every byte is right where each chunk goes to another place."""
    common = "--bytes 33554432 --verify"
    sent, got = veth_transfer(
        veth,
        f"{common} --rcvlowat 524288 --keep-bytes 1048576",
        f"{common} --message-bytes 524288",
        (mode, send),
    )
    assert sent["outcome"] == got["outcome"] == "complete"
    assert got["integrity"] == {"checked_bytes": 33554432, "mismatch": None}
    assert got["keep_bytes"] == 1048576


def test_odd_messages_end_in_short_segments(veth: Lab) -> None:
    """Uncorked, each message of two and a half pages leaves its last segment short."""
    size = 1000 * 10240
    _, got = veth_transfer(
        veth,
        f"--bytes {size} --rcvlowat 524288",
        f"--bytes {size} --message-bytes 10240 --no-cork",
        ("map_once", "zerocopy"),
    )
    found = causes(got)
    assert got["outcome"] == "complete"
    assert found["short_segment"] > 0.5 * sum(found.values()) > 0


def test_the_tail_is_less_than_a_page(veth: Lab) -> None:
    size = 8 * 2**20 + 1234
    _, got = veth_transfer(
        veth,
        f"--bytes {size} --rcvlowat 524288",
        f"--bytes {size} --message-bytes 524288",
        ("map_once", "zerocopy"),
    )
    assert causes(got)["less_than_page"] >= 1234


def test_segments_of_ipv4_do_not_carry_whole_pages(veth: Lab) -> None:
    for number, prefix in enumerate((veth.receive_prefix, veth.send_prefix), 1):
        run(*prefix, "ip", "address", "add", f"10.77.0.{number}/24", "dev", "data0")
    size = 16 * 2**20
    receiver = veth.receive("10.77.0.1", "10.77.0.2", f"--bytes {size} --rcvlowat 524288", mode="map_once")
    sender = veth.send(receiver, f"--bytes {size} --message-bytes 524288", mode="zerocopy", bind="10.77.0.2")
    sent, got = sender.finish(), receiver.finish()
    found = causes(got)
    assert sent["tcp"]["snd_mss"] == got["tcp"]["rcv_mss"] == 4116
    assert set(found) <= {"short_segment", "less_than_page"} and found["short_segment"] > 0


@pytest.mark.parametrize("mode", ["copy", "map_once", "map_once_hybrid"])
def test_urgent_byte_is_stepped_over(lab: Lab, mode: str) -> None:
    """Mapping stops in front of it for good; it is no part of the stream."""
    size = 64 * 4096
    receiver = lab.receive(options=f"--bytes {2 * size}", mode=mode)
    with connect_as_sender(receiver) as client:
        client.sendall(bytes(size))
        client.send(b"!", socket.MSG_OOB)
        client.sendall(bytes(size))
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    got = receiver.finish()
    assert (got["outcome"], got["total"]["bytes"]) == ("complete", 2 * size)
    if mode != "copy":
        assert 0 < causes(got)["urgent"] <= 4096


@pytest.mark.parametrize("chunk", [131072, 262144])
def test_a_copy_buffer_costs_a_page_a_chunk(veth: Lab, chunk: int) -> None:
    """Behind a full chunk the kernel copies what it could map; no more than that page is lost."""
    size = 64 * 2**20
    sent, got = veth_transfer(
        veth,
        f"--bytes {size} --chunk-bytes {chunk} --rcvlowat {chunk}",
        f"--bytes {size} --message-bytes 1048576",
        ("map_once_hybrid", "zerocopy"),
    )
    assert causes(got)["less_than_page"] >= size // chunk // 2 * 4096
    # A probe of a closed window, and a retransmission, may cut segments elsewhere.
    assert got["total"]["mapped_bytes"] >= (0.9 if sent["tcp"]["total"]["retransmits"] else 0.95) * size


# Framing


@pytest.mark.parametrize(("message", "receive_mode"), [(65536, "map_once"), (524288, "map_once_hybrid")])
def test_headers_leave_payload_mapped(veth: Lab, message: int, receive_mode: str) -> None:
    """What is copied is the headers, and a few pages around them."""
    size = 64 * 2**20
    sent, got = veth_transfer(
        veth,
        f"--bytes {size} --rcvlowat 524288 --verify",
        f"--bytes {size} --message-bytes {message} --header-bytes 100 --verify",
        (receive_mode, "zerocopy"),
    )
    assert (sent["outcome"], got["outcome"]) == ("complete", "complete"), (sent["error"], got["error"])
    assert (sent["header_bytes"], got["header_bytes"]) == (100, 0)
    assert got["total"]["mapped_bytes"] > 0.95 * size
    assert got["total"]["copied_bytes"] >= 100 * (size // (message + 100))
    assert causes(got)


def test_records_keep_headers_apart_from_payload(veth: Lab) -> None:
    """Payload is mapped at its own page boundaries only where no segment holds header and payload."""
    header, message, count = 100, 65536, 256
    peer = [sys.executable, str(DATA / "traffic_peer.py")]
    shares = {}
    for framed in (True, False):
        receiver = veth.start([*veth.receive_prefix, *peer, "receive", RECEIVER, str(header), str(message)])
        port = receiver.wait_for_line("listening ")[2]
        if framed:
            options = (
                f"--message-bytes {message} --header-bytes {header} --bytes {count * (header + message)}"
            )
            assert veth.send(receiver, options, "zerocopy", SENDER).finish()["outcome"] == "complete"
        else:
            words = ["send", SENDER, RECEIVER, port, hello().hex(), *map(str, (header, message, count))]
            veth.start([*veth.send_prefix, *peer, *words]).process.wait()
        stdout, _ = receiver.process.communicate(timeout=60)
        got = json.loads(stdout)
        assert got["bytes"] == count * (header + message), receiver.stderr
        shares[framed] = got["aligned"] / (count * message)
    assert shares[True] > 0.95
    assert shares[False] < 0.7


# Peers that end badly


@pytest.mark.parametrize("mode", ["copy", "map_once", "map_once_hybrid"])
@pytest.mark.parametrize("length", ["--bytes 1000000", "--seconds 5"])
def test_no_payload_at_all(lab: Lab, mode: str, length: str) -> None:
    receiver = lab.receive(options=length, mode=mode)
    connect_as_sender(receiver).close()
    got = receiver.finish()
    assert (got["outcome"], got["total"]["bytes"]) == ("cut_short", 0)
    assert "without any payload" in got["error"]


@pytest.mark.parametrize("mode", ["copy", "map_once", "map_once_hybrid"])
@pytest.mark.parametrize("payload", [0, 300 * 4096 + 7])
def test_reset_in_mid_stream(lab: Lab, mode: str, payload: int) -> None:
    """Mapping calls take the error off the socket: whoever overlooks it there waits, or spins, for ever."""
    receiver = lab.receive(options="--seconds 600 --idle-timeout 600", mode=mode)
    client = connect_as_sender(receiver)
    client.sendall(bytes(payload))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    got = receiver.finish()
    assert got["outcome"] == "cut_short"
    assert "reset" in got["error"].lower()
    assert receiver.stderr.count("\n") == 2
