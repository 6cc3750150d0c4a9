"""The options of `rbdcsi serve`: each field's flag, environment variable, default and check.

The command line and the reference page are generated from `Options`.
"""

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

from rbdcsi import errors

# sockaddr_un has 108 bytes with the final zero; the server binds a name that is 9 bytes longer.
LONGEST_SOCKET_PATH = 107 - 9

# CSI on Topology: an optional DNS prefix and a name; names and values have at most 63 bytes.
_TOPOLOGY_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_TOPOLOGY = re.compile(rf"((?:[a-z0-9.-]{{1,63}}/)?{_TOPOLOGY_NAME})=({_TOPOLOGY_NAME})")


class Address(NamedTuple):
    """The address of an HTTP server; an empty host is every address of the machine."""

    host: str
    port: int


def parse_endpoint(text: str) -> Path:
    """Return the path of a unix socket, written as `unix:///path`, `unix:/path` or `/path`.

    Raises:
        ConfigError: the text is not an absolute path, or is too long for a unix socket.
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
        ConfigError: the text has none of these forms.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\s\[\]]*)):([0-9]{1,5})", text)
    if not match or int(match[3]) > 65535:
        raise errors.ConfigError(
            f"--metrics-address {text!r} is not an address; give one such as 127.0.0.1:9808"
        )
    return Address(match[1] or match[2], int(match[3]))


def parse_networks(texts: Iterable[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return the networks of IP addresses, or of networks in CIDR notation.

    Raises:
        ConfigError: a text is neither.
    """
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise errors.ConfigError(
                f"--allow-foreign-watchers {text!r}: {error}; give an address such as 192.0.2.7, "
                "or a network such as 192.0.2.0/24"
            ) from error
    return tuple(networks)


def parse_topology(segments: Iterable[str]) -> dict[str, str]:
    """Return this node's topology from segments `key=value`.

    Raises:
        ConfigError: a segment has another form, or two segments have the same key.
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


@dataclass(frozen=True)
class Flag:
    """How a field of `Options` is set by the command line or the environment.

    Attributes:
        help: one sentence for `--help` and the reference page.
        kind: the type of the text: str, int, float or Path.
        name: the flag's name; empty takes the field's name.
        metavar: the value's name in `--help`; None shows its type.
        choices: the allowed values; empty allows any.
        least: the smallest number.
        most: the greatest number.
        above: a number that the value must exceed.
        repeated: whether the flag may be given several times.
        variables: environment variables that are read besides RBDCSI_NAME.
        parse: turns the text, or the texts, into the field's value; raises `ConfigError`.
    """

    help: str
    kind: type = str
    name: str = ""
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    repeated: bool = False
    variables: tuple[str, ...] = ()
    parse: Callable[[Any], Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `rbdcsi serve`. Durations are in seconds."""

    role: Literal["controller", "node", "all"]
    socket: Annotated[
        Path,
        Flag(
            "The unix socket: unix:///path.",
            name="endpoint",
            variables=("CSI_ENDPOINT",),
            parse=parse_endpoint,
        ),
    ]
    config: Annotated[Path, Flag("The YAML file of the clusters.", kind=Path)] = Path(
        "/etc/rbdcsi/config.yaml"
    )
    node_id: Annotated[str, Flag("This node's id; `node` and `all` need it.")] = ""
    kubelet_dir: Annotated[
        Path, Flag("Volumes are mounted below it and nowhere else.", kind=Path)
    ] = Path("/var/lib/kubelet")
    state_dir: Annotated[
        Path, Flag("The mappers' own files; a reboot may remove them.", kind=Path)
    ] = Path("/run/rbdcsi")
    daemon_cgroup: Annotated[
        Path | None,
        Flag(
            "The control group (version 2) of the mappers' daemons, which outlive a container; "
            "without it they run in the plugin's own.",
            kind=Path,
        ),
    ] = None
    mapper: Annotated[
        Literal["auto", "krbd", "nbd", "fuse"],
        Flag(
            "How images become block devices; auto takes the first that the node supports.",
            choices=("auto", "krbd", "nbd", "fuse"),
        ),
    ] = "auto"
    max_volumes: Annotated[
        int, Flag("The most volumes that this node may hold; 0 is no limit.", kind=int, least=0)
    ] = 0
    topology: Annotated[
        Mapping[str, str],
        Flag(
            "Where this node is; may be repeated.",
            metavar="KEY=VALUE",
            repeated=True,
            parse=parse_topology,
        ),
    ] = dataclasses.field(default_factory=dict)
    metrics_address: Annotated[
        Address | None,
        Flag(
            "The address of /metrics, /livez and /readyz; without it they are not served.",
            metavar="HOST:PORT",
            parse=lambda text: parse_address(text) if text else None,
        ),
    ] = None
    log_format: Annotated[
        Literal["json", "text"],
        Flag("The form of log lines on stderr.", choices=("json", "text")),
    ] = "json"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Flag(
            "The least important log lines that are written.",
            choices=("debug", "info", "warning", "error"),
        ),
    ] = "info"
    workers: Annotated[
        int,
        Flag(
            "Calls that are served at the same time for one pool; further ones wait.",
            kind=int,
            least=1,
            most=1024,
        ),
    ] = 32
    max_concurrent: Annotated[
        int,
        Flag(
            "Calls that are served and waiting, a thread for each; more are refused.",
            kind=int,
            least=1,
            most=1024,
        ),
    ] = 256
    fence: Annotated[
        Literal["always", "never"],
        Flag(
            "Whether clients that are not proved gone are fenced: by controllers when a volume is "
            "detached, by nodes when it is staged or unstaged.",
            choices=("always", "never"),
        ),
    ] = "always"
    detach_grace: Annotated[
        float,
        Flag(
            "Seconds that a living node has to release a volume before it is fenced.",
            kind=float,
            least=0,
        ),
    ] = 10.0
    allow_foreign_watchers: Annotated[
        tuple[IPv4Network | IPv6Network, ...],
        Flag(
            "Clients that may have an image open while it is staged with a single writer, although "
            "no attachment accounts for them; may be repeated.",
            metavar="ADDRESS",
            repeated=True,
            parse=parse_networks,
        ),
    ] = ()
    operation_timeout: Annotated[
        float, Flag("Seconds that one Ceph operation may take.", kind=float, above=0)
    ] = 15.0
    stop_grace: Annotated[
        float, Flag("Seconds that running calls have to finish after SIGTERM.", kind=float, least=0)
    ] = 20.0


@dataclass(frozen=True)
class DeclaredFlag:
    """A field of `Options` that has a flag; `default` is None if there is none."""

    field_name: str
    flag: Flag
    required: bool
    default: Any


def declared_flags() -> list[DeclaredFlag]:
    """Return the fields of `Options` that have a flag, in their order."""
    hints = get_type_hints(Options, include_extras=True)
    return [
        DeclaredFlag(
            field.name,
            flag,
            required=field.default is field.default_factory is dataclasses.MISSING,
            default=None if field.default is dataclasses.MISSING else field.default,
        )
        for field in dataclasses.fields(Options)
        for flag in getattr(hints[field.name], "__metadata__", ())
    ]
