# SPDX-License-Identifier: Apache-2.0
"""The traffic tool, run for real: over loopback, and over a veth pair between two network namespaces."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from tests.traffic_lab import PAGE, TOKEN, Lab, port_of, refuse_option, veth_transfer

# Every mode, both builds, both IP versions


@pytest.mark.parametrize(
    ("build", "address", "receive_mode", "send_mode"),
    list(
        itertools.product(
            ("normal", "sanitize"),
            ("127.0.0.1", "::1"),
            ("copy", "map_once", "map_once_hybrid"),
            ("copy", "zerocopy"),
        )
    ),
)
@pytest.mark.parametrize("kind", ["bytes", "seconds"])
def test_modes(
    lab: Lab, binaries: dict[str, str], build: str, address: str, receive_mode: str, send_mode: str, kind: str
) -> None:
    total = 8 * 2**20 + 1
    lab.binary = binaries[build]
    length = f"--bytes {total}" if kind == "bytes" else "--warmup 0.05 --seconds 0.15"
    receiver = lab.receive(address, options=length + " --rcvlowat 65536", mode=receive_mode)
    sender = lab.send(receiver, length, mode=send_mode)
    sent, got = sender.finish(), receiver.finish()

    assert (sent["outcome"], got["outcome"]) == ("complete", "complete"), (sent["error"], got["error"])
    assert sent["total"]["bytes"] == got["total"]["bytes"] > 0
    assert got["total"]["mapped_bytes"] + got["total"]["copied_bytes"] == got["total"]["bytes"]
    if receive_mode == "copy":
        assert got["total"]["mapped_bytes"] == 0
    for end in (sent, got):
        assert end["window"]["complete"] is True
        assert end["window"]["bytes"] > 0
        assert end["system_calls"] > 0
        assert end["tcp"]["timestamps"] in (True, False)
        if kind == "bytes":
            assert end["window"]["bytes"] == total
        else:
            assert end["window"]["bytes"] < end["total"]["bytes"]
            assert end["window"]["seconds"] >= 0.15
    assert got["rcvlowat"] == {"asked": 65536, "got": 65536}
    assert got["window"]["mapped_bytes"] + got["window"]["copied_bytes"] == got["window"]["bytes"]
    if send_mode == "zerocopy":
        done = sent["completions"]
        assert done["sends"] == done["completed"] == done["copied"] > 0, "loopback always copies"
    else:
        assert sent["completions"] is None


def test_documents_have_one_shape(lab: Lab) -> None:
    receiver = lab.receive(options="--bytes 1000000")
    sender = lab.send(receiver, "--bytes 1000000", mode="zerocopy")
    sent, got = sender.finish(), receiver.finish()

    assert list(sent) == list(got)
    assert (sent["schema_version"], sent["end"], got["end"]) == (5, "send", "receive")
    assert sent["addresses"]["local_port"] == got["addresses"]["peer_port"]
    assert sent["addresses"]["peer"] == got["addresses"]["local"] == "127.0.0.1"
    assert sent["addresses"]["ip_version"] == 4
    assert sent["window"]["mapped_bytes"] is None and sent["total"]["copied_bytes"] is None
    assert sent["refused_connections"] is None and sent["rcvlowat"] is None and sent["chunk_bytes"] is None
    assert got["message_bytes"] is None and got["completions"] is None and got["pace_gbit"] is None
    assert sent["tcp"]["total"]["bytes_sent"] - sent["tcp"]["total"]["bytes_retransmitted"] == 1000000 + 64
    assert got["host_cpu"]["cpus"] == os.cpu_count()


def test_what_was_not_measured_is_null(lab: Lab) -> None:
    receiver = lab.receive(options="--seconds 1 --accept-timeout 0.05")
    got = receiver.finish()

    assert got["outcome"] == "timeout"
    assert "127.0.0.1" in got["error"] and "--accept-timeout" in got["error"]
    assert got["window"] == {
        "complete": False,
        "seconds": None,
        "longest_pause_s": None,
        "bytes": None,
        "mapped_bytes": None,
        "copied_bytes": None,
    }
    assert set(got["cpu"].values()) == set(got["host_cpu"].values()) == {None}
    assert got["system_calls"] is None and got["tcp"]["snd_mss"] is None and got["addresses"]["local"] is None
    assert set(got["tcp"]["window"].values()) == {None}


# Who is let in


def test_wrong_token_is_refused_and_disturbs_nobody(lab: Lab) -> None:
    receiver = lab.receive(options="--bytes 1000000")
    wrong = lab.send(receiver, "--bytes 1000000", token="ff" * 16).finish()
    sent = lab.send(receiver, "--bytes 1000000").finish()
    got = receiver.finish()

    assert (wrong["outcome"], wrong["total"]["bytes"]) == ("error", 0)
    assert "wrong token" in wrong["error"]
    assert (sent["outcome"], got["outcome"], got["refused_connections"]) == ("complete", "complete", 1)
    assert "wrong token" in receiver.stderr and TOKEN not in receiver.stderr


def test_token_that_begins_like_the_right_one_is_refused(lab: Lab) -> None:
    receiver = lab.receive(options="--bytes 1000")
    assert lab.send(receiver, "--bytes 1000", token=TOKEN[:-2]).finish()["outcome"] == "error"
    assert lab.send(receiver, "--bytes 1000", token=TOKEN + "00").finish()["outcome"] == "error"
    lab.send(receiver, "--bytes 1000").finish()
    assert receiver.finish()["refused_connections"] == 2


def test_wrong_peer_is_refused(lab: Lab) -> None:
    receiver = lab.receive(options="--bytes 1000000")
    wrong = lab.send(receiver, "--bytes 1000000", bind="127.0.0.9").finish()
    sent = lab.send(receiver, "--bytes 1000000").finish()
    got = receiver.finish()

    assert wrong["outcome"] in ("error", "cut_short")
    assert (sent["outcome"], got["outcome"], got["refused_connections"]) == ("complete", "complete", 1)
    assert "127.0.0.9" in receiver.stderr


def test_silent_slow_and_many_clients_do_not_block_the_right_one(lab: Lab) -> None:
    receiver = lab.receive(options="--bytes 1000000")
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(receiver)))) for _ in range(40)
        ]
        clients[-1].sendall(b"zclab-traf")
        sent = lab.send(receiver, "--bytes 1000000").finish()
        got = receiver.finish()

    assert (sent["outcome"], got["outcome"]) == ("complete", "complete")
    assert got["refused_connections"] == 40


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n" * 10, b"\0" * 64, b"x"], ids=["http", "zeros", "short"]
)
def test_garbage_is_refused(lab: Lab, garbage: bytes) -> None:
    receiver = lab.receive(options="--bytes 1000000")
    client = socket.create_connection(("127.0.0.1", port_of(receiver)))
    with client, contextlib.suppress(OSError):  # it may have been reset by then
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    sent = lab.send(receiver, "--bytes 1000000").finish()
    got = receiver.finish()

    assert (sent["outcome"], got["outcome"], got["refused_connections"]) == ("complete", "complete", 1)


def test_nobody_gets_in_once_the_session_runs(lab: Lab) -> None:
    receiver = lab.receive(options="--seconds 600")
    sender = lab.send(receiver, "--seconds 600")
    receiver.wait_until_moving()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(receiver))).close()
    sender.process.terminate()
    assert sender.finish()["total"] == {
        **receiver.finish()["total"],
        "mapped_bytes": None,
        "copied_bytes": None,
    }


def test_listens_on_the_asked_address_only(lab: Lab) -> None:
    receiver = lab.receive("127.0.0.1", options="--seconds 1")
    for other in ("127.0.0.2", "::1"):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((other, port_of(receiver))).close()


def test_port_in_use_is_one_line(lab: Lab, binary: str) -> None:
    receiver = lab.receive(options="--seconds 1")
    own = ["receive", "--bind", "127.0.0.1", "--peer", "127.0.0.1", "--token", TOKEN, "--mode", "copy"]
    second = lab.start([binary, *own, "--seconds", "1", "--port", str(port_of(receiver))])
    got = second.finish()
    assert (got["outcome"], second.stderr.count("\n")) == ("error", 1)
    assert "127.0.0.1" in got["error"] and str(port_of(receiver)) in got["error"]


def test_sender_that_finds_nobody(lab: Lab) -> None:
    receiver = lab.receive(options="--seconds 1")
    receiver.process.terminate()
    assert receiver.finish()["outcome"] == "stopped"
    sent = lab.send(receiver, "--seconds 1").finish()
    assert sent["outcome"] == "error"
    assert "cannot connect" in sent["error"] and str(port_of(receiver)) in sent["error"]


# Ends that come too early


@pytest.mark.parametrize(("receive_mode", "send_mode"), [("copy", "copy"), ("map_once", "zerocopy")])
def test_receiver_killed(lab: Lab, receive_mode: str, send_mode: str) -> None:
    receiver = lab.receive(options="--seconds 600", mode=receive_mode)
    sender = lab.send(receiver, "--seconds 600", mode=send_mode)
    receiver.wait_until_moving()
    receiver.process.kill()
    sent = sender.finish()
    assert sent["outcome"] == "cut_short"
    assert sent["window"]["complete"] is False
    assert sent["window"]["bytes"] > 0


@pytest.mark.parametrize(("receive_mode", "send_mode"), [("copy", "copy"), ("map_once_hybrid", "zerocopy")])
def test_sender_killed(lab: Lab, receive_mode: str, send_mode: str) -> None:
    receiver = lab.receive(options="--seconds 600", mode=receive_mode)
    sender = lab.send(receiver, "--seconds 600", mode=send_mode)
    receiver.wait_until_moving()
    sender.process.kill()
    got = receiver.finish()
    assert got["outcome"] == "cut_short"
    assert got["window"]["complete"] is False
    assert got["window"]["bytes"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stopped_sender_ends_the_stream_in_order(lab: Lab, number: signal.Signals) -> None:
    receiver = lab.receive(options="--seconds 600", mode="map_once")
    sender = lab.send(receiver, "--seconds 600", mode="zerocopy")
    receiver.wait_until_moving()
    sender.process.send_signal(number)
    sent, got = sender.finish(), receiver.finish()
    assert (sent["outcome"], got["outcome"]) == ("stopped", "cut_short")
    assert sent["total"]["bytes"] == got["total"]["bytes"] > 0
    assert sent["completions"]["completed"] == sent["completions"]["sends"]
    assert sent["window"]["complete"] is got["window"]["complete"] is False


def test_stopped_receiver(lab: Lab) -> None:
    receiver = lab.receive(options="--seconds 600", mode="map_once")
    sender = lab.send(receiver, "--seconds 600")
    receiver.wait_until_moving()
    receiver.process.terminate()
    got, sent = receiver.finish(), sender.finish()
    assert (got["outcome"], sent["outcome"]) == ("stopped", "cut_short")
    assert got["window"]["bytes"] > 0


def test_stopped_while_paused_between_messages(lab: Lab) -> None:
    receiver = lab.receive(options="--seconds 600")
    sender = lab.send(receiver, "--seconds 600 --pace-gbit 0.000001")
    with pytest.raises(ConnectionRefusedError):  # which says that the sender has been let in
        while True:
            socket.create_connection(("127.0.0.1", port_of(receiver))).close()
            time.sleep(0.01)
    sender.process.terminate()
    assert sender.finish()["outcome"] == "stopped"
    assert receiver.finish()["outcome"] == "cut_short"


def test_end_of_standard_input_stops_both_ends(lab: Lab) -> None:
    receiver = lab.receive(options="--seconds 600 --watch-stdin")
    sender = lab.send(receiver, "--seconds 600 --watch-stdin")
    receiver.wait_until_moving()
    for end in (sender, receiver):
        assert end.process.stdin
        end.process.stdin.close()
        end.process.stdin = None
    assert sender.finish()["outcome"] in ("stopped", "cut_short")
    assert receiver.finish()["outcome"] in ("stopped", "cut_short")


def test_end_of_standard_input_stops_a_waiting_receiver(lab: Lab) -> None:
    receiver = lab.receive(options="--seconds 600 --watch-stdin --accept-timeout 600")
    assert receiver.process.stdin
    receiver.process.stdin.close()
    receiver.process.stdin = None
    assert receiver.finish()["outcome"] == "stopped"


def test_fewer_bytes_than_expected(lab: Lab) -> None:
    receiver = lab.receive(options="--bytes 2000000", mode="map_once")
    sent = lab.send(receiver, "--bytes 1000000").finish()
    got = receiver.finish()
    assert (sent["outcome"], got["outcome"]) == ("complete", "cut_short")
    assert "1000000 of 2000000" in got["error"]


def test_more_bytes_than_expected(lab: Lab) -> None:
    receiver = lab.receive(options="--bytes 1000000")
    lab.send(receiver, "--bytes 2000000").finish()
    got = receiver.finish()
    assert (got["outcome"], got["total"]["bytes"]) == ("error", 2000000)
    assert "2000000" in got["error"] and "1000000" in got["error"]


def test_stream_shorter_than_the_window(lab: Lab) -> None:
    receiver = lab.receive(options="--seconds 600")
    lab.send(receiver, "--bytes 1000000").finish()
    got = receiver.finish()
    assert (got["outcome"], got["window"]["complete"]) == ("cut_short", False)
    assert got["window"]["bytes"] == got["total"]["bytes"] == 1000000


def test_sender_waits_for_the_window_of_the_receiver(lab: Lab) -> None:
    """The receiver's window is longer: the sender goes on within its margin until it has closed."""
    receiver = lab.receive(options="--seconds 0.5")
    sent = lab.send(receiver, "--seconds 0.1 --margin 60").finish()
    got = receiver.finish()
    assert (sent["outcome"], got["outcome"]) == ("complete", "complete")
    assert got["window"]["complete"] is True


def test_idle_receiver_gives_up(lab: Lab) -> None:
    receiver = lab.receive(options="--seconds 600 --idle-timeout 0.3")
    sender = lab.send(receiver, "--seconds 600")
    sender.wait_until_moving()
    sender.process.send_signal(signal.SIGSTOP)
    got = receiver.finish()
    sender.process.send_signal(signal.SIGCONT)
    assert got["outcome"] == "timeout"
    assert "--idle-timeout" in got["error"]
    assert sender.finish()["outcome"] == "cut_short"


@pytest.mark.parametrize("mode", ["copy", "zerocopy"])
def test_sender_of_a_frozen_receiver_gives_up(lab: Lab, mode: str) -> None:
    receiver = lab.receive(options="--seconds 600")
    sender = lab.send(receiver, "--seconds 600 --idle-timeout 0.5", mode=mode)
    receiver.wait_until_moving()
    receiver.process.send_signal(signal.SIGSTOP)
    assert sender.finish()["outcome"] == "timeout"


# Pace


def test_pace(lab: Lab) -> None:
    receiver = lab.receive(options="--seconds 0.5")
    sent = lab.send(receiver, "--seconds 0.5 --pace-gbit 0.08 --message-bytes 32768").finish()
    got = receiver.finish()
    due = 0.08e9 / 8 * sent["window"]["seconds"]
    assert (sent["outcome"], got["outcome"], sent["pace_gbit"]) == ("complete", "complete", 0.08)
    assert due / 2 <= sent["window"]["bytes"] <= due + 2 * 32768


def test_rcvlowat_is_capped_by_the_kernel_and_read_back(lab: Lab) -> None:
    receiver = lab.receive(options="--bytes 1000000 --rcvlowat 1073741824 --rcvbuf 65536")
    lab.send(receiver, "--bytes 1000000").finish()
    got = receiver.finish()
    assert got["outcome"] == "complete"
    assert got["rcvlowat"]["asked"] == 1073741824
    assert got["rcvlowat"]["got"] == got["buffers"]["rcvbuf"] // 2


# The command line

RECEIVE = f"receive --bind 127.0.0.1 --peer 127.0.0.1 --token {TOKEN}"
SEND = f"send --bind ::1 --peer ::1 --port 9 --token {TOKEN} --mode copy --message-bytes 4096"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", "subcommand"),
        ("recieve", "recieve"),
        (f"{RECEIVE} --mode copy", "--seconds"),
        (f"{RECEIVE} --mode copy --seconds 1 --bytes 1", "--bytes"),
        (f"{RECEIVE} --mode copy --bytes 1 --warmup 1", "--warmup"),
        (f"{RECEIVE} --mode map_twice --seconds 1", "map_twice"),
        (f"{RECEIVE} --seconds 1", "--mode"),
        (f"{RECEIVE} --mode copy --seconds -1", "--seconds"),
        (f"{RECEIVE} --mode copy --seconds 0", "--seconds"),
        (f"{RECEIVE} --mode copy --seconds nan", "--seconds"),
        (f"{RECEIVE} --mode copy --seconds 1.2.3", "--seconds"),
        (f"{RECEIVE} --mode copy --seconds", "--seconds"),
        (f"{RECEIVE} --mode copy --seconds 1 --seconds 1", "--seconds"),
        (f"{RECEIVE} --mode copy --seconds 1 --sec 1", "--sec"),
        (f"{RECEIVE} --mode copy --seconds 1 --message-bytes 1", "--message-bytes"),
        (f"{RECEIVE} --mode copy --seconds 1 --watch-stdin=yes", "--watch-stdin"),
        (f"{RECEIVE} --mode copy --seconds 1 --port 65536", "--port"),
        (f"{RECEIVE} --mode copy --seconds 1 --copy-buffer 100", "--copy-buffer"),
        (f"{RECEIVE} --mode map_once_hybrid --seconds 1 --copy-buffer {PAGE}", "--copy-buffer"),
        (f"{RECEIVE} --mode map_once_hybrid --seconds 1 --copy-buffer 524288", "--copy-buffer"),
        (f"{RECEIVE} --mode map_once --seconds 1 --chunk-bytes 5000", "--chunk-bytes"),
        (f"{RECEIVE} --mode copy --seconds 1 --chunk-bytes 0", "--chunk-bytes"),
        (f"{RECEIVE} --mode copy --seconds 1 --rcvlowat 1k", "--rcvlowat"),
        ("receive --bind localhost --peer ::1 --token 00 --mode copy --seconds 1", "localhost"),
        (f"receive --bind 127.0.0.1 --peer ::1 --token {TOKEN} --mode copy --seconds 1", "--peer"),
        ("receive --bind ::1 --peer ::1 --token abc --mode copy --seconds 1", "--token"),
        (f"receive --bind ::1 --peer ::1 --token {TOKEN[:-1]}x --mode copy --seconds 1", "--token"),
        (f"{SEND} --seconds 1 --port 0", "--port"),
        (f"{SEND} --seconds 1 --pace-gbit fast", "--pace-gbit"),
        (f"{SEND} --seconds 1 --inflight-bytes 8191", "--inflight-bytes"),
        (f"{SEND} --bytes 0", "--bytes"),
        (f"{SEND} --bytes 99999999999999999999", "--bytes"),
        (f"{SEND} --seconds 1 stray", "stray"),
        (f"{SEND} --seconds 1 --streams 0", "--streams"),
        (f"{SEND} --seconds 1 --streams 65", "--streams"),
        (f"{SEND} --bytes 3 --streams 4", "--bytes"),
        (f"{SEND} --seconds 1 --cpus 0-", "--cpus"),
        (f"{SEND} --seconds 1 --cpus 0,,1", "--cpus"),
        (f"{SEND} --seconds 1 --cpus 3-2", "--cpus"),
        (f"{SEND} --seconds 1 --cpus -1", "--cpus"),
        (f"{SEND} --seconds 1 --cpus 99999999999", "--cpus"),
        (f"{SEND} --seconds 1 --baseline -1", "--baseline"),
        (f"{SEND} --seconds 1 --inject-usec-per-mib 1", "--inject-usec-per-mib"),
        (f"{RECEIVE} --mode copy --seconds 1 --inject-usec-per-mib much", "--inject-usec-per-mib"),
        (f"{RECEIVE} --mode copy --seconds 1 --plant-usec-per-mib=much", "--inject-usec-per-mib"),
        (f"{RECEIVE} --mode copy --seconds 1 --plant-usec 1", "--plant-usec"),
        (f"{RECEIVE} --mode copy --seconds 1 --{'x' * 80} 1", "x" * 80),
    ],
)
def test_bad_command_line_is_one_line(binary: str, arguments: str, named: str) -> None:
    done = subprocess.run([binary, *arguments.split()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert named in done.stderr


def test_help_and_version(binary: str) -> None:
    for arguments, wanted in [
        (["--help"], ["receive", "send", "example"]),
        (["receive", "--help"], ["--rcvlowat", "--chunk-bytes", "map_once_hybrid", "exit:"]),
        (["send", "--help"], ["--pace-gbit", "--message-bytes", "zerocopy", "exit:"]),
        (["--version"], ["zclab-traffic "]),
    ]:
        done = subprocess.run([binary, *arguments], capture_output=True, text=True, check=True)
        assert all(word in done.stdout for word in wanted)
        assert done.stderr == ""
        assert max(map(len, done.stdout.splitlines())) <= 120


# Kernels that cannot


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
class TestUnsupported:
    @pytest.mark.parametrize("mode", ["map_once", "map_once_hybrid"])
    def test_no_mapping(self, lab: Lab, binary: str, mode: str) -> None:
        own = f"{RECEIVE} --mode {mode} --seconds 1".split()
        end = lab.start([binary, *own], refuse_option(55, 35, 92))
        got = end.finish()
        assert got["outcome"] == "unsupported"
        assert "TCP_ZEROCOPY_RECEIVE" in got["error"] and "since 4.18" in got["error"]
        assert "listening" not in end.stderr

    def test_no_zerocopy_send(self, lab: Lab) -> None:
        receiver = lab.receive(options="--bytes 1000")
        sent = lab.send(receiver, "--bytes 1000", mode="zerocopy", preexec=refuse_option(54, 60, 95)).finish()
        assert sent["outcome"] == "unsupported"
        assert (
            "SO_ZEROCOPY" in sent["error"] and "since 4.14" in sent["error"] and sent["completions"] is None
        )
        assert receiver.finish()["outcome"] == "cut_short"


# Two network namespaces and a veth pair


@pytest.mark.alone  # a receiver that gets no CPU finds less than a page queued, which is copied
@pytest.mark.parametrize("mode", ["map_once", "map_once_hybrid"])
def test_every_page_of_a_zerocopy_sender_is_mapped(veth: Lab, mode: str) -> None:
    size = 128 * 2**20
    sent, got = veth_transfer(
        veth,
        f"--bytes {size} --rcvlowat 524288",
        f"--bytes {size} --message-bytes 524288",
        (mode, "zerocopy"),
    )
    assert (sent["outcome"], got["outcome"]) == ("complete", "complete"), (sent["error"], got["error"])
    assert sent["tcp"]["snd_mss"] == 4096 and sent["tcp"]["path_mtu"] == 4168
    assert sent["tcp"]["timestamps"] is True
    # A retransmission may join what it resends with what follows; without one every page is mapped.
    assert got["total"]["mapped_bytes"] >= size * (0.99 if sent["tcp"]["total"]["retransmits"] else 0.999)


def test_nothing_of_a_copying_sender_is_mapped(veth: Lab) -> None:
    _, got = veth_transfer(veth, "--bytes 33554432", "--bytes 33554432", ("map_once", "copy"))
    assert got["outcome"] == "complete"
    assert got["total"]["mapped_bytes"] == 0


def test_a_small_receive_window_does_not_cut_pages(veth: Lab) -> None:
    """The window ends anywhere; corked, the sender still sends whole segments only."""
    size = 128 * 2**20
    sent, got = veth_transfer(
        veth,
        f"--bytes {size} --rcvbuf 150000",
        f"--bytes {size} --message-bytes 524288",
        ("map_once", "zerocopy"),
    )
    assert (sent["outcome"], got["outcome"]) == ("complete", "complete")
    assert got["total"]["mapped_bytes"] >= 0.99 * size


def test_locked_memory_limit_is_named(lab: Lab) -> None:
    """Root escapes the limit through CAP_IPC_LOCK, so the sender runs without it."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv")
    lab.send_prefix = ["setpriv", "--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock"]
    receiver = lab.receive(options="--bytes 4194304")
    sent = lab.send(
        receiver,
        "--bytes 4194304 --message-bytes 524288",
        mode="zerocopy",
        preexec=lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536)),
    ).finish()
    assert sent["outcome"] == "error"
    assert "locked-memory limit" in sent["error"] and "64 KiB" in sent["error"]
    assert sent["completions"]["sends"] == 0 and sent["completions"]["no_buffers"] == 1


@pytest.mark.parametrize(("limit", "works"), [(4096, True), (100, False)])
def test_notification_memory_limit(veth: Lab, limit: int, works: bool) -> None:
    """Some notifications fit: the sender reads them and goes on. None fits: it names the setting."""
    setting = f"echo {limit} > /proc/sys/net/core/optmem_max"
    done = subprocess.run([*veth.send_prefix, "sh", "-c", setting], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("this kernel has one net.core.optmem_max for all namespaces")
    sent, _ = veth_transfer(veth, "--bytes 33554432", "--bytes 33554432", ("copy", "zerocopy"))
    if works:
        assert sent["outcome"] == "complete", sent["error"]
        assert sent["completions"]["completed"] == sent["completions"]["sends"]
    else:
        assert sent["outcome"] == "error"
        assert "net.core.optmem_max" in sent["error"] and "1048576" in sent["error"]


# What an emulator that counts instructions needs of it


def test_the_binary_holds_each_mark_once(binary: str) -> None:
    """A no-op of eight bytes for the beginning and the end of the receiver's and of the sender's window."""
    marks = re.findall(rb"\x0f\x1f\x84\x00(.)\x62\x6c\x7a", Path(binary).read_bytes(), re.DOTALL)
    assert sorted(marks) == [b"\x01", b"\x02", b"\x03", b"\x04"]


def test_it_is_linked_to_an_address_that_no_other_program_has(binary: str) -> None:
    command = ["readelf", "--segments", "--wide", binary]
    segments = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Elf file type is EXEC" in segments and "INTERP" not in segments
    starts = [int(line.split()[2], 16) for line in segments.splitlines() if line.startswith("  LOAD")]
    assert starts[0] == 0x20000000 and max(starts) < 0x21000000
