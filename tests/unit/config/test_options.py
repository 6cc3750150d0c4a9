from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.config import options


@pytest.mark.parametrize("text", ["unix:///csi/csi.sock", "unix:/csi/csi.sock", "/csi/csi.sock"])
def test_an_endpoint_is_a_unix_socket(text: str) -> None:
    assert options.parse_endpoint(text) == Path("/csi/csi.sock")


@pytest.mark.parametrize("text", ["", "unix://csi.sock", "tcp://127.0.0.1:1", "csi.sock", "/a\0b"])
def test_another_endpoint_is_refused(text: str) -> None:
    with pytest.raises(errors.ConfigError, match="is not a unix socket; give one such as"):
        options.parse_endpoint(text)


def test_an_endpoint_too_long_for_a_socket_is_refused() -> None:
    with pytest.raises(errors.ConfigError, match="98 bytes fit"):
        options.parse_endpoint("/" + "é" * 60)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:9808", ("127.0.0.1", 9808)), (":80", ("", 80)), ("[::1]:80", ("::1", 80))],
)
def test_an_address_has_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert options.parse_address(text) == address


@pytest.mark.parametrize("text", ["9808", "a:b", "a:65536", "::1:80", "a b:1", "a:"])
def test_another_address_is_refused(text: str) -> None:
    with pytest.raises(errors.ConfigError, match="is not an address"):
        options.parse_address(text)


def test_topology_is_read_as_segments() -> None:
    segments = ["topology.kubernetes.io/zone=a", "rack=b.1"]
    assert options.parse_topology(segments) == {"topology.kubernetes.io/zone": "a", "rack": "b.1"}


@pytest.mark.parametrize("text", ["zone", "zone=", "=a", "a/b/c=d", "zone=a b", "z" * 64 + "=a"])
def test_another_topology_is_refused(text: str) -> None:
    with pytest.raises(errors.ConfigError, match="is not key=value"):
        options.parse_topology([text])


def test_a_topology_key_given_twice_is_refused() -> None:
    with pytest.raises(errors.ConfigError, match="'zone' is given twice"):
        options.parse_topology(["zone=a", "zone=b"])
