# SPDX-License-Identifier: Apache-2.0
"""Several streams, where their threads run, and what they and their host used while the window was open."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import select
import signal
import socket
import statistics
import time
from pathlib import Path

import pytest
from tests.traffic_lab import LIMIT, TOKEN, Document, End, Lab, hello, port_of, refuse_calls, veth_transfer

from zclab.traffic.document import TrafficDocument

SIZE = 16 * 2**20 + 3
HUGE = 2 * 2**20
CPUS = sorted(os.sched_getaffinity(0))
TICK = 1 / os.sysconf("SC_CLK_TCK")
#: No machine that this runs on has it.
NO_SUCH_CPU = 1023

on_x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
PERF_EVENT_OPEN, CLONE, CLONE3 = 298, 56, 435


def parsed(document: Document) -> TrafficDocument:
    """Return the document as the engine reads it."""
    return TrafficDocument.model_validate({key: value for key, value in document.items() if key != "exit"})


def transfer(
    lab: Lab, receive: str, send: str, modes: tuple[str, str] = ("copy", "copy")
) -> tuple[Document, Document]:
    receiver = lab.receive(options=receive, mode=modes[0])
    sender = lab.send(receiver, send, mode=modes[1])
    return sender.finish(), receiver.finish()


def race_detecting(lab: Lab, binaries: dict[str, str]) -> Lab:
    """Return the lab with the build that finds data races, which wants an address space without surprises."""
    lab.binary = binaries["races"]
    lab.receive_prefix = lab.send_prefix = ["setarch", "-R"]
    return lab


# All bytes, on as many connections and threads


@pytest.mark.parametrize("build", ["normal", "sanitize", "races"])
@pytest.mark.parametrize("modes", [("copy", "copy"), ("map_once", "zerocopy"), ("map_once_hybrid", "copy")])
@pytest.mark.parametrize("verify", ["", " --verify"])
def test_streams_move_all_bytes(
    lab: Lab, binaries: dict[str, str], build: str, modes: tuple[str, str], verify: str
) -> None:
    lab.binary = binaries[build]
    if build == "races":
        race_detecting(lab, binaries)
    length = f"--bytes {SIZE} --streams 3" + verify
    sent, got = transfer(lab, length, length, modes)
    assert (sent["outcome"], got["outcome"]) == ("complete", "complete"), (sent["error"], got["error"])
    shares = [SIZE // 3 + SIZE % 3, SIZE // 3, SIZE // 3]
    for end in (sent, got):
        parsed(end)
        assert end["total"]["bytes"] == end["window"]["bytes"] == SIZE
        assert [stream["stream"] for stream in end["streams"]] == [0, 1, 2]
        assert [stream["window"]["bytes"] for stream in end["streams"]] == shares
    if verify:
        assert got["integrity"] == {"checked_bytes": SIZE, "mismatch": None}


@pytest.mark.parametrize("build", ["normal", "races"])
def test_streams_have_one_window(lab: Lab, binaries: dict[str, str], build: str) -> None:
    """Totals are the sums of the streams, which overlap: together they do not last longer than one does."""
    if build == "races":
        race_detecting(lab, binaries)
    length = "--warmup 0.1 --seconds 0.3 --streams 4"
    sent, got = transfer(lab, length + " --rcvlowat 65536", length, ("map_once", "zerocopy"))
    for end in (sent, got):
        assert end["outcome"] == "complete", end["error"]
        streams = end["streams"]
        assert len(streams) == 4
        for key in ("bytes", "mapped_bytes", "copied_bytes"):
            if end["window"][key] is not None:
                assert end["window"][key] == sum(stream["window"][key] for stream in streams)
        assert end["window"]["seconds"] == max(stream["window"]["seconds"] for stream in streams)
        assert all(stream["window"]["seconds"] >= 0.3 for stream in streams)
        assert all(stream["window"]["bytes"] > 0 for stream in streams)
        for key in ("segs_in", "segs_out", "retransmits"):
            assert end["tcp"]["total"][key] == sum(stream["tcp"]["total"][key] for stream in streams)
        assert end["tcp"]["snd_mss"] == min(stream["tcp"]["snd_mss"] for stream in streams)
        assert end["tcp"]["rtt_us"] == streams[0]["tcp"]["rtt_us"] > 0
        assert streams[0]["tcp"]["snd_cwnd"] > 0
    assert {stream["rcvlowat"]["got"] for stream in got["streams"]} == {65536}
    assert {stream["rcvlowat"] for stream in sent["streams"]} == {None}
    done = sent["completions"]
    assert done["sends"] == done["completed"] > 0


def test_pace_is_that_of_all_streams(lab: Lab) -> None:
    length = "--seconds 0.5 --streams 2"
    sent, got = transfer(lab, length, length + " --pace-gbit 0.08 --message-bytes 32768")
    due = 0.08e9 / 8 * sent["window"]["seconds"]
    assert (sent["outcome"], got["outcome"]) == ("complete", "complete")
    assert due / 2 <= sent["window"]["bytes"] <= due + 4 * 32768


# A stream that fails


@pytest.mark.parametrize("counts", [(2, 3), (3, 2), (1, 2)])
def test_ends_that_disagree_about_the_streams(lab: Lab, counts: tuple[int, int]) -> None:
    length = "--seconds 1 --streams "
    sent, got = transfer(lab, length + str(counts[0]), length + str(counts[1]))
    assert (sent["outcome"], got["outcome"]) == ("error", "error")
    assert f"the sender has {counts[1]} streams, the receiver {counts[0]} (--streams)" in got["error"]


def connections(receiver: End, streams: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Connect each stream as the sender would, and wait until all may send."""
    clients = []
    for stream in range(streams):
        client = socket.create_connection(("127.0.0.1", port_of(receiver)), timeout=LIMIT)
        clients.append(stack.enter_context(client))
        client.sendall(hello(stream=stream, streams=streams))
    assert [client.recv(1) for client in clients] == [b"G"] * streams
    return clients


def test_one_lost_stream_ends_all_of_them(lab: Lab, binaries: dict[str, str]) -> None:
    receiver = race_detecting(lab, binaries).receive(options="--seconds 600 --idle-timeout 600 --streams 3")
    with contextlib.ExitStack() as stack:
        clients = connections(receiver, 3, stack)
        for client in clients:
            client.sendall(bytes(100_000))
        reset = bytes([1, 0, 0, 0, 0, 0, 0, 0])  # on, 0 seconds
        clients[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        clients[1].close()
        got = receiver.finish()
    assert got["outcome"] == "cut_short"
    assert got["error"] == f"receiving: {os.strerror(errno.ECONNRESET)}", "not what follows from it"


def test_stream_asked_for_twice_is_refused(lab: Lab) -> None:
    receiver = lab.receive(options="--seconds 600 --streams 2")
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(receiver)), timeout=LIMIT))
            for _ in range(2)
        ]
        for client in clients:
            client.sendall(hello(stream=1, streams=2))
        refused, _, _ = select.select(clients, [], [], LIMIT)
        assert len(refused) == 1
        receiver.process.terminate()
        got = receiver.finish()
    assert (got["outcome"], got["refused_connections"]) == ("stopped", 1)
    assert "this stream has its connection already" in receiver.stderr


@pytest.mark.parametrize("stopped", ["receiver", "sender"])
def test_stopped_streams(lab: Lab, binaries: dict[str, str], stopped: str) -> None:
    race_detecting(lab, binaries)
    receiver = lab.receive(options="--seconds 600 --streams 3", mode="map_once")
    sender = lab.send(receiver, "--seconds 600 --streams 3", mode="zerocopy")
    receiver.wait_until_moving()
    (receiver if stopped == "receiver" else sender).process.send_signal(signal.SIGTERM)
    sent, got = sender.finish(), receiver.finish()
    assert (sent if stopped == "sender" else got)["outcome"] == "stopped"
    assert (got if stopped == "sender" else sent)["outcome"] == "cut_short"
    assert sent["window"]["complete"] is got["window"]["complete"] is False


@on_x86
def test_thread_that_can_not_start(lab: Lab) -> None:
    no_threads = refuse_calls([CLONE, CLONE3], errno.EAGAIN)
    receiver = lab.receive(options="--seconds 600 --streams 2", preexec=no_threads)
    sent = lab.send(receiver, "--seconds 600 --streams 2").finish()
    got = receiver.finish()
    assert got["outcome"] == "error"
    assert got["error"].startswith("cannot start a thread for stream 1: ")
    assert sent["outcome"] != "complete"


# Where the threads are


def affinities(end: End) -> list[set[int]]:
    """Return the processors that each thread may use, the main thread's first."""
    tasks = sorted(int(path.name) for path in Path(f"/proc/{end.process.pid}/task").iterdir())
    return [os.sched_getaffinity(task) for task in tasks]


@pytest.mark.skipif(len(CPUS) < 2, reason="one processor")
def test_threads_are_where_they_were_placed(lab: Lab) -> None:
    last, first = CPUS[-1], CPUS[0]
    where = f"--seconds 600 --streams 3 --cpus {last},{first}"
    receiver = lab.receive(options=where)
    sender = lab.send(receiver, where)
    receiver.wait_until_moving()
    sender.wait_until_moving()
    for end in (receiver, sender):
        assert affinities(end) == [{last}, {first}, {last}]
    sender.process.terminate()
    sent, got = sender.finish(), receiver.finish()
    for end_document in (sent, got):
        assert [stream["cpu"] for stream in end_document["streams"]] == [last, first, last]


def test_without_a_list_threads_are_anywhere(lab: Lab) -> None:
    sent, got = transfer(lab, "--bytes 1000 --streams 2", "--bytes 1000 --streams 2")
    assert {stream["cpu"] for end in (sent, got) for stream in end["streams"]} == {None}


@pytest.mark.parametrize("end", ["receive", "send", "rpc-serve"])
def test_cpu_that_is_not_there_is_one_line(lab: Lab, end: str) -> None:
    own = (
        f"{end} --bind 127.0.0.1 --peer 127.0.0.1 --token {TOKEN} --cpus {CPUS[0]},{NO_SUCH_CPU} --seconds 1"
    )
    own += {
        "receive": " --mode copy",
        "send": " --mode copy --port 9 --message-bytes 4096",
        "rpc-serve": " --mode recvmsg --request-bytes 1 --reply-bytes 1",
    }[end]
    started = lab.start([lab.binary, *own.split()])
    got = started.finish()
    assert got["outcome"] == "error"
    assert got["error"] == f"--cpus: processor {NO_SUCH_CPU} is not there, or not allowed to this process"
    assert started.stderr == f"error: {got['error']}\n"


# CPU of the threads


@pytest.mark.alone  # each thread needs the CPU for a tick at least
def test_cpu_of_the_threads_is_that_of_the_process(lab: Lab) -> None:
    """With --bytes the window is the transfer: the process uses little CPU outside of it."""
    length = f"--bytes {512 * 2**20} --streams 3"
    receiver = lab.receive(options=length)
    lab.send(receiver, length).finish()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    got = receiver.finish()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    own = got["cpu"]["user_s"] + got["cpu"]["system_s"]
    assert 0.5 * whole <= own <= whole + 3 * TICK

    for key in ("user_s", "system_s", "thread_s"):
        total = sum(stream["cpu_time"][key] for stream in got["streams"])
        assert got["cpu"][key] == pytest.approx(total, abs=1e-6)
    for key in ("voluntary_context_switches", "involuntary_context_switches"):
        assert got["cpu"][key] == sum(stream["cpu_time"][key] for stream in got["streams"])
    assert all(stream["cpu_time"]["system_s"] > 0 for stream in got["streams"])
    # getrusage lags by up to a tick at either end of a window; the clock of a thread does not.
    for cpu in (stream["cpu_time"] for stream in got["streams"]):
        assert cpu["thread_s"] == pytest.approx(cpu["user_s"] + cpu["system_s"], abs=2 * TICK)


def usec_per_mib(document: Document) -> float:
    mebibytes = document["window"]["bytes"] / 2**20
    cost: float = (document["cpu"]["user_s"] + document["cpu"]["system_s"]) * 1e6 / mebibytes
    return cost


@pytest.mark.parametrize("chunk", [524288, 2048])
def test_planted_cost_is_seen(lab: Lab, chunk: int) -> None:
    """Interleaved with runs without it, whatever the size of the chunks that it is spread over."""
    planted = 3000
    length = f"--bytes {32 * 2**20}"
    with_it: list[float] = []
    without: list[float] = []
    for _ in range(3):
        for costs, option in ((with_it, f" --inject-usec-per-mib {planted}"), (without, "")):
            sent, got = transfer(lab, f"{length} --chunk-bytes {chunk}{option}", length)
            assert (sent["outcome"], got["outcome"]) == ("complete", "complete")
            assert got["inject_usec_per_mib"] == (planted if option else None)
            assert sent["inject_usec_per_mib"] is None
            costs.append(usec_per_mib(got))
    ratios = [one / other for one, other in zip(with_it, without, strict=True)]
    assert statistics.median(ratios) > 2
    assert statistics.median(with_it) - statistics.median(without) == pytest.approx(planted, rel=0.2)


# The host


def test_host_cpu_is_told_cpu_by_cpu(lab: Lab) -> None:
    length = "--warmup 0.05 --seconds 0.3"
    for end in transfer(lab, length, length):
        host = end["host_cpu"]
        assert host["cpus"] == len(host["per_cpu"]) == os.cpu_count()
        for key, fields in (("busy_s", 5), ("softirq_s", 1)):  # each field of each CPU is cut to whole ticks
            together = sum(one[key] for one in host["per_cpu"])
            assert host[key] == pytest.approx(together, abs=fields * host["cpus"] * TICK)
        own = end["cpu"]["user_s"] + end["cpu"]["system_s"]
        assert host["busy_s"] >= own - 0.1
        assert host["softirqs"]["NET_RX"] > 0 and host["softirqs"]["TIMER"] > 0
        assert set(host["softnet"]) == {"processed", "dropped", "squeezed"}
        assert host["softnet"]["processed"] > 0
        assert host["baseline"] is None


@pytest.mark.parametrize("streams", [1, 2])
def test_baseline_is_taken_at_both_ends_and_is_not_the_window(lab: Lab, streams: int) -> None:
    length = f"--bytes 1000000 --baseline 0.7 --streams {streams}"
    for end in transfer(lab, length, length):
        assert end["outcome"] == "complete", end["error"]
        baseline = end["host_cpu"]["baseline"]
        assert baseline["seconds"] >= 0.7
        assert baseline["busy_s"] >= baseline["softirq_s"] >= 0
        # What the processors did in the baseline is not in the window's account.
        for cpu in end["host_cpu"]["per_cpu"]:
            assert cpu["busy_s"] + cpu["idle_s"] <= end["window"]["seconds"] + 0.5


def test_no_payload_may_come_before_the_baseline_is_over(lab: Lab) -> None:
    receiver = lab.receive(options="--seconds 600 --baseline 0.5 --streams 2")
    with contextlib.ExitStack() as stack:
        start = time.monotonic()
        connections(receiver, 2, stack)
        assert time.monotonic() - start >= 0.5
    got = receiver.finish()
    assert (got["outcome"], got["total"]["bytes"]) == ("cut_short", 0)
    assert "without any payload" in got["error"]


def test_stopped_in_the_baseline(lab: Lab, binaries: dict[str, str]) -> None:
    race_detecting(lab, binaries)
    receiver = lab.receive(options="--seconds 1 --streams 2 --baseline 600")
    sender = lab.send(receiver, "--seconds 1 --streams 2 --baseline 600")
    with pytest.raises(ConnectionRefusedError):  # which says that both connections stand
        while True:
            socket.create_connection(("127.0.0.1", port_of(receiver))).close()
            time.sleep(0.01)
    for end in (receiver, sender):
        end.process.terminate()
        document = end.finish()
        assert document["outcome"] == "stopped"
        assert "the baseline" in document["error"]


# Hardware events


def test_events_are_counted_or_the_reason_is_told(lab: Lab) -> None:
    length = f"--bytes {SIZE} --streams 2"
    for end in transfer(lab, length, length):
        perf = end["perf"]
        for counts in (perf["process"], perf["cpus"]):
            assert counts or perf["unavailable"]
            if counts:
                assert counts["cycles"] > 0 and counts["instructions"] > 0
        if perf["process"] and perf["cpus"]:
            assert perf["unavailable"] is None
            assert perf["cpus"]["instructions"] >= perf["process"]["instructions"]


@on_x86
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errno.EACCES, "kernel.perf_event_paranoid"),
        (errno.ENOENT, "gives it no cycles"),
        (errno.ENOSYS, "no perf events"),
        (errno.EMFILE, os.strerror(errno.EMFILE)),
    ],
)
def test_events_that_can_not_be_had(lab: Lab, error: int, told: str) -> None:
    receiver = lab.receive(options=f"--bytes {SIZE}", preexec=refuse_calls([PERF_EVENT_OPEN], error))
    lab.send(receiver, f"--bytes {SIZE}").finish()
    got = receiver.finish()
    assert (got["outcome"], got["perf"]["process"], got["perf"]["cpus"]) == ("complete", None, None)
    assert told in got["perf"]["unavailable"]


# Buffers


def test_receive_buffer_is_aligned_and_on_huge_pages_where_there_are_some(lab: Lab) -> None:
    enabled = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not enabled.exists() or "[never]" in enabled.read_text():
        pytest.skip("this kernel has no transparent huge pages")
    sent, got = transfer(lab, f"--bytes {SIZE} --streams 2", f"--bytes {SIZE} --streams 2")
    assert got["buffers"]["aligned_bytes"] == got["buffers"]["huge_page_bytes"] == HUGE
    assert sent["buffers"]["aligned_bytes"] is sent["buffers"]["huge_page_bytes"] is None


@pytest.mark.parametrize("mode", ["copy", "map_once", "map_once_hybrid"])
def test_no_huge_pages(veth: Lab, mode: str) -> None:
    """Denied to the process, they are missed by nobody."""
    prctl, thp_disable = ctypes.CDLL(None).prctl, 41
    if prctl(thp_disable, 1, 0, 0, 0):
        pytest.skip("this kernel cannot deny huge pages to a process")
    try:
        sent, got = veth_transfer(veth, f"--bytes {SIZE}", f"--bytes {SIZE}", (mode, "zerocopy"))
    finally:
        prctl(thp_disable, 0, 0, 0, 0)
    assert (sent["outcome"], got["outcome"]) == ("complete", "complete")
    assert got["total"]["bytes"] == SIZE
    if Path("/proc/sys/vm/nr_hugepages").read_text().strip() == "0":
        assert got["buffers"]["huge_page_bytes"] == 0
