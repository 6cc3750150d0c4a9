"""Notifications as librbd 16.2 sends them to the watchers of an image's header."""

import pytest

from rbdcsi.ceph import forwarding


@pytest.mark.parametrize(
    ("message", "is_request"),
    [
        pytest.param("07013300000008000000", True, id="take a snapshot"),
        pytest.param("07013300000009000000", False, id="remove a snapshot"),
        pytest.param("07011500000002000000", False, id="give the lock back"),
        pytest.param("07010400000003000000", False, id="the header has changed"),
        pytest.param("", False, id="the header has changed, by krbd"),
    ],
)
def test_a_request_of_a_snapshot_is_recognised(message: str, is_request: bool) -> None:
    assert forwarding.is_request_of_snapshot(bytes.fromhex(message)) is is_request
