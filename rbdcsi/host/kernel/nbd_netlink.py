"""Gives a device of the kernel's nbd driver another size, over generic netlink.

rbd-nbd does that by itself, but before Ceph 17.2.8 and 18.2.2 its message lacks the device's
identifier, so Linux 5.14 and newer refuse it (tracker.ceph.com, issue 64139). The messages are
those of include/uapi/linux/genetlink.h and nbd-netlink.h. The driver answers in the host's network
namespace only.
"""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host.kernel import sysfs

_GENERIC = 16  # NETLINK_GENERIC
_ERROR = 2  # NLMSG_ERROR; its number 0 is an acknowledgement
_REQUEST_AND_ACK = 5
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_RECONFIGURE, _INDEX, _SIZE_BYTES, _BACKEND = 3, 1, 2, 10
_HEADER, _GENERIC_HEADER, _ATTRIBUTE = (
    struct.Struct("=IHHII"),
    struct.Struct("=BBH"),
    struct.Struct("=HH"),
)
_SECONDS = 5.0
_ANSWER_BYTES = 1 << 16


def resize(device: Path, size: int) -> None:
    """Make the device so large; a program must serve it.

    Args:
        device: `/dev/nbdN`.
        size: its new size in bytes.

    Raises:
        Failed: the kernel refuses it, or does not answer.
    """
    index = int(device.name.removeprefix("nbd"))
    attributes = [
        (_INDEX, struct.pack("=I", index)),
        (_SIZE_BYTES, struct.pack("=Q", size)),
    ]
    # The kernel refuses another identifier: the device may have become another image's.
    if backend := sysfs.read(Path("/sys/block", device.name, "backend")):
        attributes.append((_BACKEND, backend.encode() + b"\0"))
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _GENERIC) as channel:
            channel.settimeout(_SECONDS)
            family = dict(_ask(channel, _CONTROL, _GET_FAMILY, [(_FAMILY_NAME, b"nbd\0")]))
            (number,) = struct.unpack("=H", family[_FAMILY_ID])
            list(_ask(channel, number, _RECONFIGURE, attributes))
    except OSError as error:
        raise errors.Failed(
            f"{device}: the kernel does not give it the size of {size} bytes: {error.strerror}; "
            "`dmesg` may name the cause"
        ) from error


def _ask(
    channel: socket.socket, family: int, command: int, attributes: list[tuple[int, bytes]]
) -> Iterator[tuple[int, bytes]]:
    """Send a request, and yield the attributes of the answer until it is acknowledged."""
    body = _GENERIC_HEADER.pack(command, 1, 0) + b"".join(_packed(*each) for each in attributes)
    channel.send(_HEADER.pack(_HEADER.size + len(body), family, _REQUEST_AND_ACK, 0, 0) + body)
    while True:
        answer = channel.recv(_ANSWER_BYTES)
        while answer:
            length, kind, *_ = _HEADER.unpack_from(answer)
            payload, answer = answer[_HEADER.size : length], answer[_aligned(length) :]
            if kind == _ERROR:
                (number,) = struct.unpack_from("=i", payload)
                if number:
                    raise OSError(-number, os.strerror(-number))
                return
            yield from _unpacked(payload[_GENERIC_HEADER.size :])


def _packed(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value.ljust(_aligned(len(value)), b"\0")


def _unpacked(attributes: bytes) -> Iterator[tuple[int, bytes]]:
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        yield kind, attributes[_ATTRIBUTE.size : length]
        attributes = attributes[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
