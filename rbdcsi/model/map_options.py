"""The options of mapping that a StorageClass may have: an allow-list for each mapper.

No list has an option that the driver sets itself, that names a file or a program, or that lets
several devices share a Ceph client (rbd(8), rbd-nbd(8), the kernel's rbd.c and ceph_common.c;
Ceph's settings for `fuse`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rbdcsi import errors

NUMBER = re.compile("[0-9]{1,10}", re.ASCII)


def _choice(*values: str) -> re.Pattern[str]:
    return re.compile("|".join(values), re.ASCII)


@dataclass(frozen=True)
class MapOptions:
    """The options of one mapper.

    Attributes:
        allowed: each option with the pattern of its value, None if it has no value.
        refused: options with the reason why they are not allowed.
        done: options that ask for what the mapper does anyway; they are accepted and not passed on.
    """

    allowed: Mapping[str, re.Pattern[str] | None]
    refused: Mapping[str, str]
    done: frozenset[str] = frozenset()


_KEY = "user and key come from the Secret of the class, or from the configuration"
_READONLY = "accessModes and readOnly decide whether a device is read-only"
_DRIVER = "the driver sets it"

KRBD = MapOptions(
    allowed={
        **dict.fromkeys(("crc", "nocrc", "tcp_nodelay", "notcp_nodelay", "rxbounce")),
        **dict.fromkeys(("cephx_require_signatures", "nocephx_require_signatures")),
        **dict.fromkeys(("cephx_sign_messages", "nocephx_sign_messages")),
        **dict.fromkeys(("abort_on_full", "lock_on_read", "notrim")),
        **dict.fromkeys(("mount_timeout", "osdkeepalive", "osd_idle_ttl", "lock_timeout"), NUMBER),
        **dict.fromkeys(("queue_depth", "alloc_size"), NUMBER),
        "ms_mode": _choice("legacy", "crc", "secure", "prefer-crc", "prefer-secure"),
        "read_from_replica": _choice("no", "balance", "localize"),
        "crush_location": re.compile(r"[\w.-]+:[\w.-]+(?:\|[\w.-]+:[\w.-]+)*", re.ASCII),
        "compression_hint": _choice("none", "compressible", "incompressible"),
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
    allowed=dict.fromkeys(("io-timeout", "reattach-timeout", "timeout"), NUMBER),
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
        **dict.fromkeys(("rados_osd_op_timeout", "rados_mon_op_timeout"), NUMBER),
        **dict.fromkeys(("rbd_readahead_max_bytes", "rbd_readahead_trigger_requests"), NUMBER),
        "rbd_readahead_disable_after_bytes": NUMBER,
        "rbd_read_from_replica_policy": _choice("default", "balance", "localize"),
        "rbd_compression_hint": _choice("none", "compressible", "incompressible"),
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
    pattern = table.allowed[name]
    if pattern is None and equals:
        raise errors.InvalidRequest(f"mapOptions: {name} of {mapper} has no value; write {name}")
    if pattern is not None and not pattern.fullmatch(value):
        raise errors.InvalidRequest(
            f"mapOptions: {name}={value!r} is not allowed for {mapper}; its value must match "
            f"{pattern.pattern}"
        )
