import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from rbdcsi import errors
from rbdcsi.config.options import Address
from rbdcsi.server import health

LOCAL = Address("127.0.0.1", 0)


def get(address: Address, path: str) -> tuple[int, str]:
    url = f"http://{address.host}:{address.port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def has_v6() -> bool:
    """Whether this machine has the address ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.fixture
def answers() -> list[health.Health]:
    return []


@pytest.fixture
def address(answers: list[health.Health]) -> Iterator[Address]:
    with health.serving(LOCAL, lambda: answers[-1]) as address:
        yield address


@pytest.mark.parametrize(
    ("alive", "ready", "livez", "readyz"),
    [(True, True, 200, 200), (True, False, 200, 503), (False, False, 503, 503)],
)
def test_probe_tells_what_the_kubelet_sees(
    alive: bool,
    ready: bool,
    livez: int,
    readyz: int,
    address: Address,
    answers: list[health.Health],
) -> None:
    answers.append(health.Health(alive, ready, "cluster a does not answer"))
    assert get(address, "/livez") == (livez, "cluster a does not answer\n")
    assert get(address, "/readyz") == (readyz, "cluster a does not answer\n")


def test_metrics_are_shown_with_the_build(address: Address) -> None:
    status, text = get(address, "/metrics")
    assert status == 200
    assert 'rbdcsi_build_info{python="' in text
    assert "process_resident_memory_bytes" in text


def test_another_path_is_told_what_there_is(address: Address) -> None:
    assert get(address, "/") == (404, "this server has /metrics, /livez and /readyz\n")


def test_a_silent_connection_does_not_keep_others_waiting(
    address: Address, answers: list[health.Health]
) -> None:
    answers.append(health.Health(True, True, "ready"))
    with socket.create_connection(address):
        assert get(address, "/livez")[0] == 200


def test_without_a_host_it_is_reached_by_both_protocols(answers: list[health.Health]) -> None:
    answers.append(health.Health(True, True, "ready"))
    hosts = ["127.0.0.1", *(["[::1]"] if has_v6() else [])]
    with health.serving(Address("", 0), lambda: answers[-1]) as address:
        for host in hosts:
            assert get(Address(host, address.port), "/livez") == (200, "ready\n")


def test_without_ipv6_it_is_reached_by_the_other(
    answers: list[health.Health], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    answers.append(health.Health(True, True, "ready"))
    with health.serving(Address("", 0), lambda: answers[-1]) as address:
        assert get(Address("127.0.0.1", address.port), "/livez") == (200, "ready\n")


def test_an_address_in_use_is_named() -> None:
    with (
        health.serving(LOCAL, lambda: health.Health(True, True, "")) as address,
        pytest.raises(errors.Refused, match=rf"127.0.0.1:{address.port} cannot be used: Address"),
        health.serving(address, lambda: health.Health(True, True, "")),
    ):
        pytest.fail("two servers at one address")


def test_the_address_is_free_afterwards() -> None:
    with health.serving(LOCAL, lambda: health.Health(True, True, "")) as address:
        pass
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(address)
