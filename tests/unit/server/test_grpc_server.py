"""The real server on a real socket, around services that need no Ceph."""

import concurrent.futures
import contextlib
import json
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from e2e import processes
from e2e.clusters import commands
from rbdcsi import errors
from rbdcsi.api import csi_pb2, csi_pb2_grpc
from rbdcsi.server import grpc_server
from rbdcsi.server.activity import Activity
from rbdcsi.server.locks import KeyedLocks
from rbdcsi.telemetry import metrics
from tests.unit import tiny

Code = grpc.StatusCode


@dataclass
class Running:
    """A server in this process, and a channel to it."""

    socket: Path
    tiny: tiny.Tiny
    stopping: threading.Event
    channel: grpc.Channel
    finished: "concurrent.futures.Future[bool]"
    activity: Activity

    @property
    def identity(self) -> csi_pb2_grpc.IdentityStub:
        return csi_pb2_grpc.IdentityStub(self.channel)

    @property
    def controller(self) -> csi_pb2_grpc.ControllerStub:
        return csi_pb2_grpc.ControllerStub(self.channel)

    def delete(self, volume: str, seconds: float = 20) -> Any:
        """Begin a call that lasts until `tiny.controller.released`."""
        request = csi_pb2.DeleteVolumeRequest(volume_id=volume)
        return self.controller.DeleteVolume.future(request, timeout=seconds)


@contextlib.contextmanager
def running(path: Path, **changes: Any) -> Iterator[Running]:
    services, stopping = tiny.Tiny(), threading.Event()
    with (
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        grpc.insecure_channel(f"unix:{path}") as channel,
    ):
        options = tiny.options(path, **changes)
        activity = Activity()
        finished = pool.submit(
            grpc_server.serve, options, services.add_to, stopping.wait, KeyedLocks(), activity
        )
        try:
            grpc.channel_ready_future(channel).result(timeout=10)
            yield Running(path, services, stopping, channel, finished, activity)
        finally:
            services.controller.released.set()
            stopping.set()
            finished.result(timeout=20)
            for worker in [thread for thread in threading.enumerate() if thread.name[:3] == "rpc"]:
                worker.join(timeout=10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "csi.sock"


@pytest.fixture
def driver(path: Path) -> Iterator[Running]:
    with running(path) as driver:
        yield driver


def code_of(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as failed:
        call()
    error: Any = failed.value
    return error.code(), error.details()


def test_a_call_is_answered_with_its_request_id(driver: Running) -> None:
    answer, call = driver.identity.GetPluginInfo.with_call(
        csi_pb2.GetPluginInfoRequest(), metadata=(("x-request-id", "mine"),), timeout=10
    )
    assert answer.name == "tiny"
    assert ("x-request-id", "mine") in call.trailing_metadata()


def test_the_socket_is_private_and_removed_at_the_end(path: Path) -> None:
    with running(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(path.parent.iterdir()) == [path]
    assert list(path.parent.iterdir()) == []


def test_a_second_driver_is_refused_and_the_first_goes_on(driver: Running) -> None:
    options = tiny.options(driver.socket)
    with pytest.raises(errors.Refused, match="another driver answers at"):
        grpc_server.serve(
            options, tiny.Tiny().add_to, threading.Event().wait, KeyedLocks(), Activity()
        )
    assert driver.identity.Probe(csi_pb2.ProbeRequest(), timeout=10).ready.value


def test_a_second_call_on_the_same_volume_is_aborted_at_once(driver: Running) -> None:
    first = driver.delete("v1")
    assert driver.tiny.controller.entered.wait(10)
    code, words = code_of(driver.delete("v1").result)
    assert code is Code.ABORTED
    assert "DeleteVolume of volume 'v1' (request " in words
    driver.tiny.controller.released.set()
    assert first.result() == csi_pb2.DeleteVolumeResponse()
    assert driver.delete("v1").result() == csi_pb2.DeleteVolumeResponse()


def test_a_method_that_is_not_served_is_unimplemented(driver: Running) -> None:
    request = csi_pb2.GetCapacityRequest()
    code, words = code_of(lambda: driver.controller.GetCapacity(request, timeout=10))
    assert (code, words) == (Code.UNIMPLEMENTED, "Controller has no GetCapacity in this driver")


def test_a_message_that_is_too_large_is_refused_and_the_next_one_served(path: Path) -> None:
    with running(path) as driver:
        code, _ = code_of(driver.delete("v" * 5_000_000).result)  # gRPC takes 4 MiB
        assert code is Code.RESOURCE_EXHAUSTED
        assert driver.identity.Probe(csi_pb2.ProbeRequest(), timeout=10).ready.value


def test_more_calls_than_allowed_are_refused_not_queued(path: Path) -> None:
    with running(path, workers=1, max_concurrent=2) as driver:
        calls, done = [driver.delete(str(number)) for number in range(6)], threading.Semaphore(0)
        for call in calls:
            call.add_done_callback(lambda _: done.release())
        assert all(done.acquire(timeout=10) for _ in range(4))
        driver.tiny.controller.released.set()
        codes = [call.code() for call in calls]
        assert sorted(code.name for code in codes) == ["OK"] * 2 + ["RESOURCE_EXHAUSTED"] * 4


def test_hundreds_of_idle_connections_do_not_keep_a_caller_waiting(driver: Running) -> None:
    with contextlib.ExitStack() as idle:
        for _ in range(400):
            client = idle.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(driver.socket))
        assert driver.identity.Probe(csi_pb2.ProbeRequest(), timeout=10).ready.value


def test_text_that_is_no_request_harms_nobody(driver: Running) -> None:
    raw: Any = driver.channel.unary_unary("/csi.v1.Controller/DeleteVolume")
    code, _ = code_of(lambda: raw(b"\xff\xff\xff", timeout=10))
    assert code is Code.INTERNAL
    assert driver.identity.Probe(csi_pb2.ProbeRequest(), timeout=10).ready.value


# ---- streams


def allocated(driver: Running, seconds: float = 20) -> Any:
    """Begin a call that streams its response."""
    stub = csi_pb2_grpc.SnapshotMetadataStub(driver.channel)
    request = csi_pb2.GetMetadataAllocatedRequest(snapshot_id="s1")
    return stub.GetMetadataAllocated(request, timeout=seconds)


def count(code: str) -> float:
    """Return how many streams have ended with that code, by the metrics."""
    labels = {"method": "GetMetadataAllocated", "code": code}
    return metrics.REGISTRY.get_sample_value("rbdcsi_rpc_requests_total", labels) or 0.0


def test_a_stream_is_served_and_counted_as_one_call(driver: Running) -> None:
    before = count("OK")
    stream = allocated(driver)
    assert len(list(stream)) == 3
    assert any(key == "x-request-id" for key, _ in stream.trailing_metadata())
    assert count("OK") == before + 1


def test_an_error_in_a_stream_ends_it_with_its_code(driver: Running) -> None:
    driver.tiny.snapshot_metadata.fails_after = 2
    stream = allocated(driver)
    assert code_of(lambda: list(stream)) == (Code.NOT_FOUND, "snapshot s1 is gone")
    driver.tiny.snapshot_metadata.fails_after = 0
    assert code_of(lambda: list(allocated(driver))) == (Code.NOT_FOUND, "snapshot s1 is gone")


def test_a_stream_goes_no_faster_than_its_reader_and_ends_with_it(driver: Running) -> None:
    served, before = driver.tiny.snapshot_metadata, count("CANCELLED")
    served.messages = 10_000
    stream = allocated(driver)
    next(stream)
    sent = -1
    while sent != served.sent:  # until flow control stops it
        sent = served.sent
        time.sleep(0.3)
    assert sent < 500
    stream.cancel()
    assert served.ended.wait(20)
    while count("CANCELLED") == before:  # the layers end after the service
        time.sleep(0.01)
    assert count("CANCELLED") == before + 1
    served.messages = 1
    assert len(list(allocated(driver))) == 1


def test_a_stream_whose_deadline_passes_ends(driver: Running) -> None:
    served = driver.tiny.snapshot_metadata
    served.messages = 10_000
    stream = allocated(driver, seconds=0.5)
    next(stream)
    assert served.ended.wait(20)
    assert code_of(lambda: list(stream))[0] is Code.DEADLINE_EXCEEDED


# ---- health


def test_probe_of_the_own_socket_tells_ready_and_not_ready(driver: Running) -> None:
    health = grpc_server.probe(driver.socket, driver.activity)
    assert (health.alive, health.ready) == (True, True)
    driver.tiny.identity.ready = False
    health = grpc_server.probe(driver.socket, driver.activity)
    assert (health.alive, health.ready) == (True, False)


def test_who_answers_that_ceph_does_not_is_alive(driver: Running) -> None:
    driver.tiny.identity.error = errors.Unavailable("cluster a does not answer")
    health = grpc_server.probe(driver.socket, driver.activity)
    assert (health.alive, health.ready) == (True, False)
    assert health.message == "cluster a does not answer"


def test_who_cannot_be_reached_is_not_alive(path: Path) -> None:
    assert not grpc_server.probe(path, Activity()).alive


def test_who_is_busy_lives_until_no_call_has_ended_for_too_long(path: Path) -> None:
    with running(path, max_concurrent=1) as driver:
        first = driver.delete("v1")
        assert driver.tiny.controller.entered.wait(10)
        health = grpc_server.probe(path, driver.activity, seconds=0.2)
        assert (health.alive, health.ready) == (True, False)
        assert health.message.startswith("busy: every thread serves a call; the last one ended ")
        assert not grpc_server.probe(path, driver.activity, seconds=0.2, patience=0).alive
        driver.tiny.controller.released.set()
        first.result()
        # The server frees the call's thread a moment after the caller has the answer.
        commands.wait_until(
            lambda: grpc_server.probe(path, driver.activity).ready, "it is ready", 10
        )


# ---- stop


def test_stop_finishes_what_runs_and_refuses_the_new(driver: Running) -> None:
    first = driver.delete("v1")
    assert driver.tiny.controller.entered.wait(10)
    driver.stopping.set()
    refused = threading.Event()
    while not refused.is_set():
        with contextlib.suppress(grpc.FutureTimeoutError):
            if driver.delete("v2", seconds=0.2).code() is Code.UNAVAILABLE:
                refused.set()
    assert not driver.finished.done()
    driver.tiny.controller.released.set()
    assert first.code() is Code.OK
    assert driver.finished.result(timeout=10) is True
    assert not driver.socket.exists()


def test_stop_cuts_off_what_outlasts_the_grace(path: Path) -> None:
    with running(path, stop_grace=0.2) as driver:
        first = driver.delete("v1")
        assert driver.tiny.controller.entered.wait(10)
        driver.stopping.set()
        assert driver.finished.result(timeout=10) is False
        assert first.code() is not Code.OK


@contextlib.contextmanager
def process(path: Path, grace: float) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-m", "tests.unit.tiny", str(path), str(grace)]
    with processes.start(argv, subprocess.PIPE) as driver:
        try:
            with grpc.insecure_channel(f"unix:{path}") as channel:
                grpc.channel_ready_future(channel).result(timeout=30)
            yield driver
        finally:
            driver.kill()


def events(driver: subprocess.Popen[bytes]) -> Iterator[str]:
    """Yield what the driver logs, as it does."""
    assert driver.stdout
    return (json.loads(line)["event"] for line in driver.stdout)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_a_call_loses_nothing(path: Path, number: signal.Signals) -> None:
    request = csi_pb2.DeleteVolumeRequest(volume_id="v1")
    with process(path, grace=20) as driver, grpc.insecure_channel(f"unix:{path}") as channel:
        call = csi_pb2_grpc.ControllerStub(channel).DeleteVolume.future(request, timeout=20)
        log = events(driver)
        assert "entered" in log
        driver.send_signal(number)
        assert call.code() is Code.OK
        assert list(log) == ["stopping", "call"]
        assert driver.wait(20) == 0
    assert not path.exists()


def test_a_call_that_outlasts_the_grace_does_not_keep_the_process(path: Path) -> None:
    request = csi_pb2.DeleteVolumeRequest(volume_id="v1")
    with process(path, grace=0.1) as driver, grpc.insecure_channel(f"unix:{path}") as channel:
        call = csi_pb2_grpc.ControllerStub(channel).DeleteVolume.future(request, timeout=20)
        assert "entered" in events(driver)
        driver.terminate()
        assert call.code() is not Code.OK
        assert driver.wait(20) == 0
    assert not path.exists()


def test_the_socket_of_a_killed_driver_is_replaced(path: Path) -> None:
    with process(path, grace=1) as killed:
        killed.kill()
        killed.wait()
    assert path.exists()
    with running(path) as driver:
        assert driver.identity.Probe(csi_pb2.ProbeRequest(), timeout=10).ready.value
