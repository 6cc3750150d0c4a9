"""The options of the running program: what flags and environment say, checked, in one record."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from rbdcsi import errors

# sockaddr_un has 108 bytes with the final zero; the server binds under a name 9 bytes longer.
LONGEST_SOCKET_PATH = 107 - 9

# CSI on Topology: an optional DNS prefix and a name; names and values have at most 63 bytes.
_TOPOLOGY_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_TOPOLOGY = re.compile(rf"((?:[a-z0-9.-]{{1,63}}/)?{_TOPOLOGY_NAME})=({_TOPOLOGY_NAME})")


class Address(NamedTuple):
    """Where an HTTP server listens; no host means every address of the machine."""

    host: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `rbdcsi serve` was told. Durations are in seconds, sizes in bytes."""

    role: Literal["controller", "node", "all"]
    socket: Path
    config: Path
    node_id: str = ""
    kubelet_dir: Path = Path("/var/lib/kubelet")
    state_dir: Path = Path("/run/rbdcsi")
    daemon_cgroup: Path | None = None  # None: the process's own
    mapper: Literal["auto", "krbd", "nbd", "fuse"] = "auto"
    max_volumes: int = 0  # 0: no limit
    topology: Mapping[str, str] = field(default_factory=dict)
    metrics_address: Address | None = None
    log_format: Literal["json", "text"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    workers: int = 32  # calls served at the same time
    max_concurrent: int = 256  # calls served and waiting; more get RESOURCE_EXHAUSTED
    max_message_size: int = 4 << 20
    operation_timeout: float = 15.0  # of one Ceph operation
    grpc_health: bool = False
    grpc_reflection: bool = False
    stop_grace: float = 20.0


def parse_endpoint(text: str) -> Path:
    """Return the socket's path of `unix:///path`, `unix:/path` or `/path`.

    Raises:
        ConfigError: it is no absolute path of a unix socket, or too long for one.
    """
    match = re.fullmatch(r"(?:unix:)?(?://)?(/[^/\0][^\0]*)", text)
    if not match:
        raise errors.ConfigError(
            f"--endpoint {text!r} is not a unix socket; give one such as unix:///csi/csi.sock"
        )
    if len(match[1].encode()) > LONGEST_SOCKET_PATH:
        raise errors.ConfigError(
            f"--endpoint {text!r} is too long for a unix socket; {LONGEST_SOCKET_PATH} bytes fit"
        )
    return Path(match[1])


def parse_address(text: str) -> Address:
    """Return host and port of `host:port`, `[v6]:port` or `:port`.

    Raises:
        ConfigError: it is none of these.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\s\[\]]*)):([0-9]{1,5})", text)
    if not match or int(match[3]) > 65535:
        raise errors.ConfigError(
            f"--metrics-address {text!r} is not an address; give one such as 127.0.0.1:9808"
        )
    return Address(match[1] or match[2], int(match[3]))


def parse_topology(segments: Iterable[str]) -> dict[str, str]:
    """Return the segments `key=value` of where this node is.

    Raises:
        ConfigError: one is not of that form, or a key comes twice.
    """
    topology: dict[str, str] = {}
    for segment in segments:
        match = _TOPOLOGY.fullmatch(segment)
        if not match:
            raise errors.ConfigError(
                f"--topology {segment!r} is not key=value; give one such as "
                "topology.kubernetes.io/zone=a"
            )
        if match[1] in topology:
            raise errors.ConfigError(f"--topology {match[1]!r} is given twice; keep one")
        topology[match[1]] = match[2]
    return topology
