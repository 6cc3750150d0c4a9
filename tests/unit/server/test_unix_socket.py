import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.server import unix_socket

Bind = Callable[[Path], None]


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    listeners: list[socket.socket] = []
    yield listeners
    for listener in listeners:
        listener.close()


@pytest.fixture
def bind(listeners: list[socket.socket]) -> Bind:
    def bind(path: Path) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listeners.append(listener)
        listener.bind(str(path))
        listener.listen()

    return bind


def connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_the_socket_is_for_its_owner_and_alone_in_its_folder(tmp_path: Path, bind: Bind) -> None:
    path, modes = tmp_path / "csi.sock", []

    def bind_and_look(passing: Path) -> None:
        bind(passing)
        modes.append(stat.S_IMODE(passing.stat().st_mode))

    before = os.umask(0)
    try:
        with unix_socket.published(path, bind_and_look):
            connect(path)
            modes.append(stat.S_IMODE(path.stat().st_mode))
            assert list(tmp_path.iterdir()) == [path]
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600]
    assert list(tmp_path.iterdir()) == []


def test_a_dead_socket_is_replaced(tmp_path: Path, bind: Bind) -> None:
    path = tmp_path / "csi.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with unix_socket.published(path, bind):
        connect(path)


def test_a_socket_that_answers_is_never_taken(tmp_path: Path, bind: Bind) -> None:
    path = tmp_path / "csi.sock"
    bind(path)
    with (
        pytest.raises(errors.Refused, match=f"another driver answers at {path}; stop it, or"),
        unix_socket.published(path, bind),
    ):
        pytest.fail("two drivers at one socket")
    connect(path)


def test_a_socket_whose_queue_is_full_is_not_taken_for_dead(
    tmp_path: Path, listeners: list[socket.socket], bind: Bind
) -> None:
    path = tmp_path / "csi.sock"
    busy = socket.socket(socket.AF_UNIX)
    listeners.append(busy)
    busy.bind(str(path))
    busy.listen(0)
    for _ in range(2):
        client = socket.socket(socket.AF_UNIX)
        listeners.append(client)
        client.setblocking(False)
        client.connect_ex(str(path))
    with pytest.raises(errors.Refused, match="answers at"), unix_socket.published(path, bind):
        pytest.fail("two drivers at one socket")


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("x")])
def test_what_is_no_socket_is_never_removed(
    make: Callable[[Path], None], tmp_path: Path, bind: Bind
) -> None:
    path = tmp_path / "csi.sock"
    make(path)
    with pytest.raises(errors.Refused, match="is not a socket"), unix_socket.published(path, bind):
        pytest.fail("it was replaced")
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path: Path, bind: Bind) -> None:
    path = tmp_path / "none" / "csi.sock"
    with (
        pytest.raises(errors.Refused, match=r"none cannot be used: No such .*; create it"),
        unix_socket.published(path, bind),
    ):
        pytest.fail("there is no folder")


def test_a_bind_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def bind(path: Path) -> None:
        path.touch()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError), unix_socket.published(tmp_path / "csi.sock", bind):
        pytest.fail("nothing is bound")
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_start_at_the_same_moment_one_gets_the_socket(
    tmp_path: Path, bind: Bind
) -> None:
    path = tmp_path / "csi.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    start, end, won, refused = threading.Barrier(8), threading.Event(), [], []

    def drive(number: int) -> None:
        start.wait()
        try:
            with unix_socket.published(path, bind):
                won.append(number)
                end.wait(10)
        except errors.Refused:
            refused.append(number)
            if len(refused) == 7:
                end.set()

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 7)


def test_the_socket_of_the_next_driver_is_left_alone(
    tmp_path: Path, bind: Bind, listeners: list[socket.socket]
) -> None:
    path = tmp_path / "csi.sock"
    with unix_socket.published(path, bind):
        listeners[0].close()
        next_driver = unix_socket.published(path, bind)
        next_driver.__enter__()
    connect(path)
    next_driver.__exit__(None, None, None)
    assert not path.exists()
