"""Protobuf to records and back: nothing further in knows a message type."""

from collections.abc import Iterable, Mapping

from rbdcsi import errors
from rbdcsi.api import csi_pb2
from rbdcsi.config import keys
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import capabilities
from rbdcsi.model.capabilities import AccessMode, Capability

GENERATION = "generation"  # in publish_context

_Mode = csi_pb2.VolumeCapability.AccessMode


def required(name: str, value: str) -> str:
    """Return a field that must not be empty; InvalidRequest if it is."""
    if not value:
        raise errors.InvalidRequest(f"{name} is missing")
    return value


def capability(message: csi_pb2.VolumeCapability) -> Capability:
    """Read one VolumeCapability and check that RBD can have it.

    Raises:
        InvalidRequest: incomplete, unknown, or impossible.
    """
    kind = message.WhichOneof("access_type")
    if kind is None:
        raise errors.InvalidRequest("volume_capability has neither block nor mount")
    known = {mode.name for mode in AccessMode}
    number = message.access_mode.mode
    name = _Mode.Mode.Name(number) if number in _Mode.Mode.values() else str(number)
    if name not in known:
        raise errors.InvalidRequest(f"volume_capability has access mode {name}; it must be set")
    mount = message.mount
    found = Capability(AccessMode(name), kind == "block", mount.fs_type, tuple(mount.mount_flags))
    capabilities.check(found)
    return found


def required_capability(message: csi_pb2.VolumeCapability, *, present: bool) -> Capability:
    """Read a VolumeCapability that must be there."""
    if not present:
        raise errors.InvalidRequest("volume_capability is missing")
    return capability(message)


def all_capabilities(messages: Iterable[csi_pb2.VolumeCapability]) -> tuple[Capability, ...]:
    """Read a list of VolumeCapabilities that must not be empty."""
    found = tuple(capability(message) for message in messages)
    if not found:
        raise errors.InvalidRequest("volume_capabilities is missing")
    return found


def credentials(secrets: Mapping[str, str]) -> Credentials | None:
    """Return the user and key of the call's secrets, None if it has none.

    Raises:
        InvalidRequest: only one of the two, or no Ceph key; the value is not shown.
    """
    user, key = secrets.get("userID", ""), secrets.get("userKey", "")
    if not user and not key:
        return None
    if not user or not key:
        raise errors.InvalidRequest("secrets: userID and userKey go together; one is missing")
    try:
        return Credentials(user.removeprefix("client."), keys.parse(key))
    except ValueError as error:
        raise errors.InvalidRequest(f"secrets: userKey: {error}") from None


def generation(publish_context: Mapping[str, str]) -> int:
    """Return the attachment's generation.

    Raises:
        InvalidRequest: it is missing or no number.
    """
    text = publish_context.get(GENERATION, "")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise errors.InvalidRequest(
            f"publish_context has no {GENERATION}; give what ControllerPublishVolume returned "
            "(CSIDriver: attachRequired must be true)"
        )
    return int(text)
