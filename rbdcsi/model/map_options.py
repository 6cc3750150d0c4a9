"""The options of mapping that a StorageClass may have: an allow-list for each mapper.

No list has an option that the driver sets itself, that names a file or a program, or that lets
several devices share a Ceph client (rbd(8), rbd-nbd(8), the kernel's rbd.c and ceph_common.c;
Ceph's settings for `fuse`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rbdcsi import errors
from rbdcsi.model.option_values import Allowed, Choice, Number, Text, flags, mistake_of, valued


@dataclass(frozen=True)
class MapOptions:
    """The options of one mapper.

    Attributes:
        allowed: each option with the values that it takes, None if it has no value.
        refused: options with the reason why they are not allowed.
        done: options that ask for what the mapper does anyway; they are accepted and not passed on.
    """

    allowed: Allowed
    refused: Mapping[str, str]
    done: frozenset[str] = frozenset()


_KEY = "user and key come from the Secret of the class, or from the configuration"
_READONLY = "accessModes and readOnly decide whether a device is read-only"
_DRIVER = "the driver sets it"

# The kernel parses its numbers into 32 bits, and keeps times in milliseconds.
_SECONDS = 2**31 // 1000
_SIGNED, _UNSIGNED = 2**31 - 1, 2**32 - 1
_LONG = Number(0, 10**10 - 1)

KRBD = MapOptions(
    allowed={
        **flags("crc nocrc tcp_nodelay notcp_nodelay rxbounce abort_on_full lock_on_read notrim"),
        **flags("cephx_require_signatures nocephx_require_signatures"),
        **flags("cephx_sign_messages nocephx_sign_messages"),
        **valued(Number(0, _SECONDS), "mount_timeout osd_request_timeout lock_timeout"),
        **valued(Number(1, _SECONDS), "osdkeepalive osd_idle_ttl"),
        "queue_depth": Number(1, _UNSIGNED),
        "alloc_size": Number(512, 2**31, power_of_2=True),
        "ms_mode": Choice("legacy", "crc", "secure", "prefer-crc", "prefer-secure"),
        "read_from_replica": Choice("no", "balance", "localize"),
        "crush_location": Text(
            r"[\w.-]+:[\w.-]+(?:\|[\w.-]+:[\w.-]+)*", "TYPE:NAME, several with | between them"
        ),
        "compression_hint": Choice("none", "compressible", "incompressible"),
    },
    done=frozenset(("noshare", "rw", "read_write", "udev", "noudev")),
    refused={
        "share": "each device has a Ceph client of its own, so that a fence hits no other",
        "exclusive": "the attachment record already keeps other writers away",
        **dict.fromkeys(("name", "secret", "key"), _KEY),
        **dict.fromkeys(("ro", "read_only"), _READONLY),
        **dict.fromkeys(("ip", "fsid", "_pool_ns"), _DRIVER),
    },
)
NBD = MapOptions(
    # `timeout` is the name of io-timeout before Ceph 16
    allowed=valued(Number(0, _SIGNED), "io-timeout reattach-timeout timeout"),
    done=frozenset(("try-netlink",)),
    refused={
        "exclusive": KRBD.refused["exclusive"],
        "quiesce-hook": "it is a program, which would run as root on the node",
        "read-only": _READONLY,
        **dict.fromkeys(("device", "cookie"), _DRIVER),
    },
)
FUSE = MapOptions(
    allowed={
        **valued(_LONG, "rados_osd_op_timeout rados_mon_op_timeout"),
        **valued(_LONG, "rbd_readahead_max_bytes rbd_readahead_trigger_requests"),
        **valued(_LONG, "rbd_readahead_disable_after_bytes"),
        "rbd_read_from_replica_policy": Choice("default", "balance", "localize"),
        "rbd_compression_hint": Choice("none", "compressible", "incompressible"),
    },
    refused={"rbd_cache": "a daemon that ends must lose no data, so it caches no writes"},
)
TABLE: Mapping[str, MapOptions] = MappingProxyType({"krbd": KRBD, "nbd": NBD, "fuse": FUSE})


def parse(mapper: str, text: str) -> tuple[str, ...]:
    """Return the options to pass on, each as `name` or `name=value`.

    Args:
        mapper: one of `TABLE`.
        text: the options with commas between them; empty for none.

    Raises:
        InvalidRequest: an option or its value is not allowed for this mapper.
    """
    table = TABLE[mapper]
    options = [option for option in (each.strip() for each in text.split(",")) if option]
    for option in options:
        _check(mapper, table, option)
    return tuple(option for option in options if option not in table.done)


def _check(mapper: str, table: MapOptions, option: str) -> None:
    name, equals, value = option.partition("=")
    if option in table.done:
        return
    if name not in table.allowed:
        reason = table.refused.get(name) or f"allowed are {', '.join(sorted(table.allowed))}"
        raise errors.InvalidRequest(
            f"mapOptions: {name!r} is not allowed for {mapper}: {reason}; leave it out"
        )
    values = table.allowed[name]
    if values is None and equals:
        raise errors.InvalidRequest(f"mapOptions: {name} of {mapper} has no value; write {name}")
    if mistake := mistake_of(values, value if equals else None):
        raise errors.InvalidRequest(
            f"mapOptions: {name}={value!r} is not allowed for {mapper}: {mistake}"
        )
