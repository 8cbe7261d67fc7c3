# SPDX-License-Identifier: Apache-2.0
"""The small-RPC mode of the traffic tool, run for real: over loopback, and between two network namespaces."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.traffic_lab import LIMIT, TOKEN, TRAFFIC, Document, End, Lab, hello, port_of, refuse_option

from zclab.traffic.document import RpcDocument
from zclab.traffic.histogram import Histogram, bucket, maximum_us, mean_us, percentile_us

MODES = ("recvmsg", "poll_recvmsg", "map_recvmsg", "map_copy_buffer")
SIZES = "--request-bytes 100 --reply-bytes 200"
# Calls for each RPC and end: wait, map, receive, send.
CALLS = {
    "recvmsg": (0, 0, 1, 1),
    "poll_recvmsg": (1, 0, 1, 1),
    "map_recvmsg": (1, 1, 1, 1),
    "map_copy_buffer": (1, 1, 0, 1),
}


def serve(lab: Lab, options: str, mode: str = "recvmsg", address: str = "127.0.0.1", peer: str = "") -> End:
    own = ["rpc-serve", "--bind", address, "--peer", peer or address, "--token", TOKEN, "--mode", mode]
    end = lab.start([*lab.receive_prefix, lab.binary, *own, *options.split()])
    end.wait_for_line("listening ")
    return end


def call(
    lab: Lab,
    server: End,
    options: str,
    mode: str = "recvmsg",
    bind: str = "",
    token: str = TOKEN,
    prefix: tuple[str, ...] = (),
    preexec: Callable[[], None] | None = None,
) -> End:
    _, address, port = server.wait_for_line("listening ")
    own = ["rpc-call", "--bind", bind or address, "--peer", address, "--port", port, "--token", token]
    command = [*lab.send_prefix, *prefix, lab.binary, *own, "--mode", mode, *options.split()]
    return lab.start(command, preexec)


def finish(*ends: End) -> list[Document]:
    return [end.finish() for end in ends]


def parsed(document: Document) -> RpcDocument:
    return RpcDocument.model_validate({key: value for key, value in document.items() if key != "exit"})


def calls_of(document: Document) -> tuple[int, ...]:
    return tuple(document["calls"][kind] for kind in ("poll", "getsockopt", "recvmsg", "sendmsg"))


def check_counts(document: Document, mode: str) -> None:
    """Every call of the window is accounted for, exactly; a wait that lasted a whole tick adds one."""
    rpcs = document["rpcs"]
    expected = tuple(each * rpcs for each in CALLS[mode])
    idle_ticks = max(0, sum(calls_of(document)) - sum(expected))
    assert idle_ticks <= document["window"]["seconds"] / 0.25
    assert calls_of(document)[1] == expected[1] and calls_of(document)[3] == expected[3]
    if not idle_ticks:
        assert calls_of(document) == expected
    assert document["system_calls"] == sum(calls_of(document))


# Every mode, both builds, both IP versions


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("build", ["normal", "sanitize"])
@pytest.mark.parametrize("mode", MODES)
def test_modes(lab: Lab, binaries: dict[str, str], build: str, address: str, mode: str) -> None:
    lab.binary = binaries[build]
    options = f"{SIZES} --warmup 0.05 --seconds 0.2"
    server = serve(lab, options, mode, address)
    client = call(lab, server, options, mode)
    called, served = finish(client, server)

    assert (called["outcome"], served["outcome"]) == ("complete", "complete"), (
        called["error"],
        served["error"],
    )
    assert (called["end"], served["end"]) == ("rpc_client", "rpc_server")
    assert list(called) == list(served)
    for document, got in ((called, 200), (served, 100)):
        check_counts(document, mode)
        assert document["window"]["complete"] is True and document["window"]["seconds"] >= 0.2
        assert 0 < document["rpcs"] < document["total"]["rpcs"]
        assert document["mapped_bytes"] == 0
        assert document["copied_bytes"] == got * document["rpcs"]
        assert document["cpu"]["system_s"] is not None
    assert called["total"]["rpcs"] == served["total"]["rpcs"]
    assert served["latency"] is None
    latency = called["latency"]
    assert latency["total"] == called["rpcs"] == sum(count for _, count in latency["counts"])
    assert bucket(latency["min"]) == latency["counts"][0][0]
    assert bucket(latency["max"]) == latency["counts"][-1][0]

    own_calls = sum(called["calls"].values()) - called["calls"]["poll"]
    assert own_calls / called["rpcs"] == {"map_recvmsg": 3}.get(mode, 2)
    histogram = parsed(called).latency
    assert histogram is not None
    middle, longest = percentile_us(histogram, 50), maximum_us(histogram)
    assert histogram.min is not None and middle is not None and longest is not None
    assert histogram.min / 1000 <= middle <= longest
    # One RPC follows another: their latencies add up to no more than the window.
    mean = mean_us(histogram)
    assert mean is not None
    assert mean * histogram.total <= called["window"]["seconds"] * 1e6 * (1 + 1 / 128)
    assert parsed(served).latency is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("request_bytes", "reply_bytes"), [(1, 1), (4096, 65537), (1 << 20, 1 << 20)])
def test_sizes(lab: Lab, mode: str, request_bytes: int, reply_bytes: int) -> None:
    options = f"--request-bytes {request_bytes} --reply-bytes {reply_bytes} --seconds 0.2"
    server = serve(lab, options, mode)
    client = call(lab, server, options, mode)
    for document, got in zip(finish(client, server), (reply_bytes, request_bytes), strict=True):
        assert document["outcome"] == "complete", document["error"]
        assert document["mapped_bytes"] + document["copied_bytes"] == got * document["rpcs"] > 0
        assert (document["request_bytes"], document["reply_bytes"]) == (request_bytes, reply_bytes)
        assert document["calls"]["sendmsg"] >= document["rpcs"]
        if mode == "recvmsg":
            assert document["calls"]["recvmsg"] >= document["rpcs"]


@pytest.mark.parametrize("mode", MODES)
def test_between_namespaces(veth: Lab, mode: str) -> None:
    options = f"{SIZES} --warmup 0.05 --seconds 0.3"
    server = serve(veth, options, mode, "fd00:7a63::1", "fd00:7a63::2")
    client = call(veth, server, options, mode, bind="fd00:7a63::2")
    for document in finish(client, server):
        assert document["outcome"] == "complete", document["error"]
        check_counts(document, mode)
        assert document["addresses"]["ip_version"] == 6
        assert document["tcp"]["snd_mss"] == 4096


def test_the_ends_may_receive_in_different_modes(lab: Lab) -> None:
    options = f"{SIZES} --seconds 0.1"
    server = serve(lab, options, "map_copy_buffer")
    called, served = finish(call(lab, server, options, "recvmsg"), server)
    assert (called["outcome"], served["outcome"]) == ("complete", "complete")
    check_counts(called, "recvmsg")
    check_counts(served, "map_copy_buffer")


def test_both_ends_take_an_idle_baseline(lab: Lab) -> None:
    options = f"{SIZES} --seconds 0.2 --baseline 0.2"
    server = serve(lab, options)
    for document in finish(call(lab, server, options), server):
        assert document["outcome"] == "complete", document["error"]
        host = parsed(document).host_cpu
        assert host.baseline is not None and host.baseline.seconds is not None
        assert host.baseline.seconds >= 0.2
        assert host.per_cpu is not None and len(host.per_cpu) == host.cpus


def test_an_end_runs_on_the_processor_it_is_given(lab: Lab) -> None:
    last = max(os.sched_getaffinity(0))
    server = serve(lab, f"{SIZES} --seconds 600 --cpus {last}")
    client = call(lab, server, f"{SIZES} --seconds 600 --cpus {last}")
    client.wait_until_moving()
    server.wait_until_moving()
    assert os.sched_getaffinity(client.process.pid) == os.sched_getaffinity(server.process.pid) == {last}
    client.process.terminate()
    finish(client, server)


def test_a_processor_that_is_not_there_is_one_line(lab: Lab, binary: str) -> None:
    own = f"rpc-serve --bind ::1 --peer ::1 --token {TOKEN} --mode recvmsg {SIZES} --seconds 1 --cpus 1000"
    end = lab.start([binary, *own.split()])
    assert end.finish()["outcome"] == "error"
    assert "1000" in end.stderr and end.stderr.count("\n") == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("watched", ["client", "server"])
def test_calls_as_counted_from_outside(lab: Lab, tmp_path: Path, mode: str, watched: str) -> None:
    """The kernel's view through ptrace: the calls between the two readings of tcp_info are the window."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    if subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace cannot trace here")
    log = tmp_path / "strace"
    strace = ("strace", "-f", "-o", str(log), "-e", "trace=poll,getsockopt,recvmsg,sendmsg,recvfrom,sendto")
    options = f"{SIZES} --warmup 0.1 --seconds 0.3"
    if watched == "server":
        lab.receive_prefix = list(strace)
    server = serve(lab, options, mode)
    client = call(lab, server, options, mode, prefix=strace if watched == "client" else ())
    called, served = finish(client, server)
    document = called if watched == "client" else served
    assert document["outcome"] == "complete", document["error"]

    lines = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines()]
    readings = [number for number, line in enumerate(lines) if re.match(r"getsockopt\(.*TCP_INFO", line)]
    counted = dict.fromkeys(("poll", "getsockopt", "recvmsg", "sendmsg"), 0)
    for line in lines[readings[0] + 1 : readings[1]]:
        name = line.partition("(")[0]
        assert name in counted, f"a call that the document does not count: {line}"
        counted[name] += 1
        if name == "getsockopt":
            assert "TCP_ZEROCOPY_RECEIVE" in line or re.search(r"0x23\b", line), line
    assert counted == document["calls"]
    assert document["rpcs"] > 0


ZEROCOPY_CLIENT = """
import mmap, socket, struct, sys

request_bytes, port = map(int, sys.argv[1:3])
connection = socket.create_connection(("fd00:7a63::1", port), timeout=60)
connection.setsockopt(socket.SOL_SOCKET, 60, 1)  # SO_ZEROCOPY
connection.sendall(bytes.fromhex(sys.argv[3]))
connection.recv(1)
connection.sendall(struct.pack("!8sII", b"zclabRPC", request_bytes, 1))
connection.recv(16, socket.MSG_WAITALL)
page = mmap.mmap(-1, 4096)
page[:1] = b"Q"
for _ in range(3):
    connection.send(page, 0x4000000)  # MSG_ZEROCOPY
    if not connection.recv(1):
        break
"""


@pytest.mark.parametrize(
    ("mode", "request_bytes", "mapped"),
    [
        ("map_recvmsg", 4096, 3 * 4096),
        ("map_copy_buffer", 4096, 0),  # all of it fits the copy buffer
        ("map_recvmsg", 4000, None),  # the page that is sent is more than a request
    ],
)
def test_requests_that_can_be_mapped(veth: Lab, mode: str, request_bytes: int, mapped: int | None) -> None:
    """The client sends by zerocopy, so that its pages arrive as pages."""
    options = f"--request-bytes {request_bytes} --reply-bytes 1 --seconds 600"
    server = serve(veth, options, mode, "fd00:7a63::1", "fd00:7a63::2")
    own = [str(request_bytes), str(port_of(server)), hello().hex()]
    client = veth.start([*veth.send_prefix, sys.executable, "-c", ZEROCOPY_CLIENT, *own])
    served = server.finish()
    client.process.communicate(timeout=LIMIT)
    total = served["total"]
    if mapped is None:
        assert served["outcome"] == "error" and "more than one message of 4000" in served["error"], served
    else:
        assert (served["outcome"], total["rpcs"]) == ("cut_short", 3), served["error"]
        assert (total["mapped_bytes"], total["copied_bytes"]) == (mapped, 3 * 4096 - mapped)


# Two ends that do not fit


def test_other_sizes_are_an_error_at_both_ends(lab: Lab) -> None:
    server = serve(lab, "--request-bytes 100 --reply-bytes 200 --seconds 1")
    client = call(lab, server, "--request-bytes 100 --reply-bytes 201 --seconds 1")
    for end, document in zip((client, server), finish(client, server), strict=True):
        assert (document["outcome"], document["total"]["rpcs"]) == ("error", 0)
        assert all(word in document["error"] for word in ("200", "201", "--request-bytes", "--reply-bytes"))
        assert (
            document["rpcs"] is None
            and document["latency"] is document["system_calls"] is document["calls"] is None
        )
        assert end.stderr.count("error:") == 1
        parsed(document)


def test_wrong_token_is_refused_and_disturbs_nobody(lab: Lab) -> None:
    options = f"{SIZES} --seconds 0.1"
    server = serve(lab, options)
    wrong = call(lab, server, options, token="ff" * 16).finish()
    called, served = finish(call(lab, server, options), server)
    assert wrong["outcome"] == "error" and "wrong token" in wrong["error"]
    assert (called["outcome"], served["outcome"], served["refused_connections"]) == (
        "complete",
        "complete",
        1,
    )


def test_bulk_sender_at_an_rpc_server(lab: Lab) -> None:
    server = serve(lab, f"{SIZES} --seconds 600")
    sender = lab.send(server, "--seconds 600")
    served, sent = finish(server, sender)
    assert served["outcome"] == "error" and "rpc-call" in served["error"]
    assert sent["outcome"] == "cut_short"


def test_rpc_client_at_a_bulk_receiver(lab: Lab) -> None:
    receiver = lab.receive(options="--seconds 600")
    called = call(lab, receiver, f"{SIZES} --seconds 600 --idle-timeout 0.3").finish()
    assert called["outcome"] == "timeout" and "message sizes" in called["error"]
    assert receiver.finish()["outcome"] == "cut_short"


class Impostor:
    """A client that has the token and knows the protocol, and then misbehaves."""

    def __init__(self, server: End, request_bytes: int = 100, reply_bytes: int = 200) -> None:
        self.reply_bytes = reply_bytes
        self.socket = socket.create_connection(("127.0.0.1", port_of(server)), timeout=LIMIT)
        self.socket.sendall(hello())
        assert self.read(1) == b"G"
        self.socket.sendall(struct.pack("!8sII", b"zclabRPC", request_bytes, reply_bytes))
        assert self.read(16) == struct.pack("!8sII", b"zclabRPC", request_bytes, reply_bytes)

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += (more := self.socket.recv(count - len(data)))
            assert more, "the server has ended the connection"
        return data

    def request(self, message: bytes) -> bytes:
        self.socket.sendall(message)
        return self.read(self.reply_bytes)


@pytest.mark.parametrize("mode", MODES)
def test_garbage_in_place_of_a_request(lab: Lab, mode: str) -> None:
    server = serve(lab, f"{SIZES} --seconds 600", mode)
    impostor = Impostor(server)
    assert impostor.request(b"Q" + bytes(99))[:1] == b"A"
    impostor.socket.sendall(b"GET / HTTP/1.1\r\n" * 20)
    served = server.finish()
    impostor.socket.close()
    assert (served["outcome"], served["total"]["rpcs"]) == ("error", 1)
    assert "request" in served["error"] or "more than one message" in served["error"]


@pytest.mark.parametrize("mode", MODES)
def test_stream_that_ends_within_a_request(lab: Lab, mode: str) -> None:
    server = serve(lab, f"{SIZES} --seconds 600", mode)
    impostor = Impostor(server)
    impostor.socket.sendall(b"Q" + bytes(49))
    impostor.socket.close()
    served = server.finish()
    assert served["outcome"] == "cut_short"
    assert "50 of a message's 100" in served["error"]


@pytest.mark.parametrize("mode", MODES)
def test_client_that_stalls_within_a_request(lab: Lab, mode: str) -> None:
    server = serve(lab, f"{SIZES} --seconds 600 --idle-timeout 0.3", mode)
    impostor = Impostor(server)
    impostor.socket.sendall(b"Q" + bytes(49))
    served = server.finish()
    impostor.socket.close()
    assert served["outcome"] == "timeout" and "--idle-timeout" in served["error"]


@pytest.mark.parametrize("mode", MODES)
def test_requests_in_pieces(lab: Lab, mode: str) -> None:
    server = serve(lab, f"{SIZES} --seconds 600", mode)
    impostor = Impostor(server)
    for _ in range(3):
        impostor.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (b"Q", bytes(50), bytes(49)):
            impostor.socket.sendall(piece)
            time.sleep(0.01)
        assert len(impostor.read(200)) == 200
    impostor.socket.close()
    served = server.finish()
    assert (served["outcome"], served["total"]["rpcs"]) == ("cut_short", 3)
    assert served["total"]["copied_bytes"] == 300


def test_a_window_without_any_rpc_is_no_measurement(lab: Lab) -> None:
    server = serve(lab, f"{SIZES} --warmup 0.05 --seconds 0.05")
    impostor = Impostor(server)
    impostor.request(b"Q" + bytes(99))
    time.sleep(1)  # the server's waits end after a quarter of a second each, and its window with one of them
    impostor.socket.close()
    served = server.finish()
    assert (served["outcome"], served["window"]["complete"], served["rpcs"]) == ("cut_short", True, 0)
    assert "no RPC" in served["error"]


def test_session_without_any_rpc(lab: Lab) -> None:
    server = serve(lab, f"{SIZES} --seconds 1")
    Impostor(server).socket.close()
    served = server.finish()
    assert (served["outcome"], served["total"]["rpcs"], served["rpcs"]) == ("cut_short", 0, None)


# Ends that come too early


@pytest.mark.parametrize("mode", MODES)
def test_server_killed(lab: Lab, mode: str) -> None:
    server = serve(lab, f"{SIZES} --seconds 600", mode)
    client = call(lab, server, f"{SIZES} --seconds 600", mode)
    client.wait_until_moving()
    server.process.kill()
    called = client.finish()
    assert (called["outcome"], called["window"]["complete"]) == ("cut_short", False)
    assert called["rpcs"] == called["latency"]["total"] > 0


@pytest.mark.parametrize("mode", MODES)
def test_client_killed(lab: Lab, mode: str) -> None:
    server = serve(lab, f"{SIZES} --seconds 600", mode)
    client = call(lab, server, f"{SIZES} --seconds 600", mode)
    server.wait_until_moving()
    client.process.kill()
    served = server.finish()
    assert (served["outcome"], served["window"]["complete"]) == ("cut_short", False)
    assert served["rpcs"] > 0


@pytest.mark.parametrize("stopped", ["client", "server"])
@pytest.mark.parametrize("mode", ["recvmsg", "map_copy_buffer"])
def test_stopped(lab: Lab, mode: str, stopped: str) -> None:
    server = serve(lab, f"{SIZES} --seconds 600", mode)
    client = call(lab, server, f"{SIZES} --seconds 600", mode)
    server.wait_until_moving()
    (client if stopped == "client" else server).process.send_signal(signal.SIGTERM)
    called, served = finish(client, server)
    wanted = ("stopped", "cut_short") if stopped == "client" else ("cut_short", "stopped")
    assert (called["outcome"], served["outcome"]) == wanted


@pytest.mark.parametrize("frozen", ["client", "server"])
def test_frozen_peer(lab: Lab, frozen: str) -> None:
    server = serve(lab, f"{SIZES} --seconds 600 --idle-timeout 0.3")
    client = call(lab, server, f"{SIZES} --seconds 600 --idle-timeout 0.3")
    server.wait_until_moving()
    ice, other = (client, server) if frozen == "client" else (server, client)
    ice.process.send_signal(signal.SIGSTOP)
    document = other.finish()
    ice.process.send_signal(signal.SIGCONT)
    assert document["outcome"] == "timeout" and "--idle-timeout" in document["error"]
    assert ice.finish()["outcome"] in ("cut_short", "timeout")


def test_end_of_standard_input_stops_a_waiting_server(lab: Lab) -> None:
    server = serve(lab, f"{SIZES} --seconds 600 --watch-stdin --accept-timeout 600")
    assert server.process.stdin
    server.process.stdin.close()
    server.process.stdin = None
    assert server.finish()["outcome"] == "stopped"


def test_client_waits_for_the_window_of_the_server(lab: Lab) -> None:
    server = serve(lab, f"{SIZES} --seconds 0.5")
    client = call(lab, server, f"{SIZES} --seconds 0.1 --margin 60")
    called, served = finish(client, server)
    assert (called["outcome"], served["outcome"]) == ("complete", "complete")
    assert served["window"]["complete"] is True
    assert called["latency"]["total"] == called["rpcs"] < served["rpcs"]


def test_client_without_margin_cuts_the_longer_window_of_the_server(lab: Lab) -> None:
    server = serve(lab, f"{SIZES} --seconds 600")
    called, served = finish(call(lab, server, f"{SIZES} --seconds 0.1 --margin 0"), server)
    assert (called["outcome"], served["outcome"]) == ("complete", "cut_short")
    assert "before the window closed" in served["error"]


# Kernels that cannot


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
@pytest.mark.parametrize(
    ("mode", "error", "release"),
    [
        ("map_recvmsg", 92, "4.18"),  # ENOPROTOOPT: before 4.18
        ("map_copy_buffer", 92, "5.11"),
        ("map_recvmsg", 22, "5.7"),  # EINVAL: the argument of 4.18 was shorter
        ("map_copy_buffer", 22, "5.11"),
    ],
)
def test_unsupported_kernel(lab: Lab, binary: str, mode: str, error: int, release: str) -> None:
    own = f"rpc-serve --bind 127.0.0.1 --peer 127.0.0.1 --token {TOKEN} --mode {mode} --seconds 1 {SIZES}"
    end = lab.start([binary, *own.split()], refuse_option(55, 35, error))
    document = end.finish()
    assert document["outcome"] == "unsupported"
    assert "TCP_ZEROCOPY_RECEIVE" in document["error"] and release in document["error"]
    assert "listening" not in end.stderr
    parsed(document)


# The command line

SERVE = f"rpc-serve --bind 127.0.0.1 --peer 127.0.0.1 --token {TOKEN} --mode recvmsg"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (f"{SERVE} {SIZES}", "--seconds"),
        (f"{SERVE} --seconds 1 --request-bytes 1", "--reply-bytes"),
        (f"{SERVE} --seconds 1 --reply-bytes 1", "--request-bytes"),
        (f"{SERVE} --seconds 1 --request-bytes 0 --reply-bytes 1", "--request-bytes"),
        (f"{SERVE} --seconds 1 --request-bytes 1048577 --reply-bytes 1", "--request-bytes"),
        (f"{SERVE} {SIZES} --seconds 1 --bytes 5", "--bytes"),
        (f"{SERVE} {SIZES} --seconds 1 --margin 5", "--margin"),
        (f"{SERVE.replace('recvmsg', 'copy')} {SIZES} --seconds 1", "copy"),
        (f"{SERVE.replace('rpc-serve', 'rpc-call')} {SIZES} --seconds 1", "--port"),
        (f"receive --bind ::1 --peer ::1 --token {TOKEN} --mode recvmsg --seconds 1", "recvmsg"),
    ],
)
def test_bad_command_line_is_one_line(binary: str, arguments: str, named: str) -> None:
    done = subprocess.run([binary, *arguments.split()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert named in done.stderr


@pytest.mark.parametrize("end", ["rpc-serve", "rpc-call"])
def test_help(binary: str, end: str) -> None:
    done = subprocess.run([binary, end, "--help"], capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in (*MODES, "--request-bytes", "--reply-bytes", "exit:"))
    assert max(map(len, done.stdout.splitlines())) <= 120


# The histogram itself

PROGRAM = r"""
#include "latency.h"
#include <inttypes.h>
#include <stdio.h>

int main(void)
{
    static struct latency latency;
    int64_t value;

    while (scanf("%" SCNd64, &value) == 1)
        latency_record(&latency, value);
    printf("{\"unit\": \"ns\", \"significant_bits\": %d, \"total\": %" PRIu64 ", \"min\": %" PRId64
           ", \"max\": %" PRId64 ", \"counts\": [",
           LATENCY_SIGNIFICANT_BITS, latency.total, latency.min_ns, latency.max_ns);
    for (size_t i = 0, first = 1; i < LATENCY_BUCKETS; i++)
        if (latency.counts[i]) {
            printf("%s[%" PRId64 ", %" PRIu64 "]", first ? "" : ", ", latency_lowest(i), latency.counts[i]);
            first = 0;
        }
    puts("]}");
    return 0;
}
"""


@pytest.fixture(scope="session")
def histogram_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("latency")
    source, program = directory / "record.c", directory / "record"
    source.write_text(PROGRAM)
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    files = ["-I", str(TRAFFIC), str(source), str(TRAFFIC / "latency.c"), "-o", str(program)]
    built = subprocess.run(["cc", *flags, *files], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return str(program)


def record(program: str, values: list[int]) -> str:
    done = subprocess.run(
        [program], input=" ".join(map(str, values)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


EDGES = sorted({edge + step for power in range(36) for edge in (1 << power,) for step in (-1, 0, 1)})


@pytest.mark.parametrize("kind", ["edges", "log-uniform", "bimodal"])
def test_percentiles_against_a_sorted_list(histogram_program: str, kind: str) -> None:
    draw = random.Random(kind)
    values = {
        "edges": lambda: [value for value in EDGES if value <= 60_000_000_000] * 200,
        "log-uniform": lambda: [int(10 ** draw.uniform(2, 10.7)) for _ in range(30_000)],
        "bimodal": lambda: [
            int(draw.gauss(20_000, 2000) if draw.random() < 0.995 else draw.gauss(4e6, 1e5))
            for _ in range(30_000)
        ],
    }[kind]()
    histogram = Histogram.model_validate_json(record(histogram_program, values))
    values.sort()
    assert (histogram.min, histogram.max, histogram.total) == (values[0], values[-1], len(values))
    for percent in (50, 90, 99, 99.9, 99.99):
        true = values[int(percent * len(values) / 100 + 0.5) - 1]  # of the nearest rank
        got = percentile_us(histogram, percent)
        assert got is not None
        assert true <= got * 1000 * (1 + 1e-9) and got * 1000 <= true * (1 + 1 / 128), (percent, true, got)
    mean, true_mean = mean_us(histogram), sum(values) / len(values)
    assert mean is not None and abs(mean * 1000 - true_mean) <= true_mean / 128


def test_every_bucket_is_where_python_says(histogram_program: str) -> None:
    for value in EDGES:
        if value <= 60_000_000_000:
            counts = Histogram.model_validate_json(record(histogram_program, [value])).counts
            assert counts == ((bucket(value), 1),)


def test_out_of_range(histogram_program: str) -> None:
    histogram = Histogram.model_validate_json(record(histogram_program, [0, 70_000_000_000]))
    assert histogram.counts == ((0, 1), (bucket(60_000_000_000), 1))
    assert (histogram.min, histogram.max) == (0, 70_000_000_000)
