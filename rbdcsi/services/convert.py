"""Turns protobuf messages into records, so that other packages need no message types."""

from collections.abc import Iterable, Mapping

from rbdcsi import errors
from rbdcsi.api import csi_pb2
from rbdcsi.config import credentials as config
from rbdcsi.config import keys
from rbdcsi.model import capabilities, ids
from rbdcsi.model.capabilities import AccessMode, Capability

GENERATION = "generation"  # in publish_context

_Mode = csi_pb2.VolumeCapability.AccessMode


def required(name: str, value: str) -> str:
    """Return the value of a field; raise InvalidRequest if it is empty."""
    if not value:
        raise errors.InvalidRequest(f"{name} is missing")
    return value


def capability(message: csi_pb2.VolumeCapability) -> Capability:
    """Return one VolumeCapability as a record.

    Raises:
        InvalidRequest: it is incomplete or unknown, or no RBD volume can have it.
    """
    kind = message.WhichOneof("access_type")
    if kind is None:
        raise errors.InvalidRequest(
            "volume_capability has neither block nor mount; set one of them"
        )
    number = message.access_mode.mode
    name = _Mode.Mode.Name(number) if number in _Mode.Mode.values() else str(number)
    names = [mode.name for mode in AccessMode]
    if name not in names:
        raise errors.InvalidRequest(
            f"volume_capability has access mode {name}; set one of {', '.join(names)}"
        )
    mount = message.mount
    record = Capability(AccessMode(name), kind == "block", mount.fs_type, tuple(mount.mount_flags))
    capabilities.check(record)
    return record


def required_capability(message: csi_pb2.VolumeCapability, *, present: bool) -> Capability:
    """Return a VolumeCapability as a record; raise InvalidRequest if the request has none."""
    if not present:
        raise errors.InvalidRequest("volume_capability is missing")
    return capability(message)


def optional_capability(message: csi_pb2.VolumeCapability, *, present: bool) -> Capability | None:
    """Return a VolumeCapability as a record, None if the request has none."""
    return capability(message) if present else None


def all_capabilities(messages: Iterable[csi_pb2.VolumeCapability]) -> tuple[Capability, ...]:
    """Return VolumeCapabilities as records; raise InvalidRequest if there is none."""
    records = tuple(capability(message) for message in messages)
    if not records:
        raise errors.InvalidRequest("volume_capabilities is missing")
    return records


def credentials(secrets: Mapping[str, str]) -> config.Credentials | None:
    """Return the user and key in the call's secrets, None if they are empty.

    Raises:
        InvalidRequest: one of the two is missing or malformed. The message does not show the key.
    """
    user, key = secrets.get("userID", ""), secrets.get("userKey", "").strip()
    if not user and not key:
        return None
    if not user or not key:
        raise errors.InvalidRequest("secrets: userID and userKey go together; set both")
    field = "userID"
    try:
        name, field = config.user(user), "userKey"
        return config.Credentials(name, keys.parse(key))
    except ValueError as error:
        raise errors.InvalidRequest(f"secrets: {field}: {error}") from None


def content_source(
    request: csi_pb2.CreateVolumeRequest,
) -> ids.VolumeHandle | ids.SnapshotHandle | None:
    """Return the volume or snapshot of which a copy is asked for, None if the volume begins empty.

    Raises:
        InvalidRequest: the request has a source without an id.
        NotFound: the id is none of this driver.
    """
    message = request.volume_content_source
    kind = message.WhichOneof("type")
    if kind == "snapshot":
        return ids.parse_snapshot(
            required("volume_content_source.snapshot.snapshot_id", message.snapshot.snapshot_id)
        )
    if kind == "volume":
        return ids.parse(
            required("volume_content_source.volume.volume_id", message.volume.volume_id)
        )
    if request.HasField("volume_content_source"):
        raise errors.InvalidRequest("volume_content_source has neither snapshot nor volume")
    return None


def content_source_message(source: str | None) -> csi_pb2.VolumeContentSource | None:
    """Return the message for the source in a volume's spec."""
    if source is None:
        return None
    if ids.is_snapshot(source):
        snapshot = csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id=source)
        return csi_pb2.VolumeContentSource(snapshot=snapshot)
    volume = csi_pb2.VolumeContentSource.VolumeSource(volume_id=source)
    return csi_pb2.VolumeContentSource(volume=volume)


def generation(publish_context: Mapping[str, str]) -> int:
    """Return the generation of the attachment.

    Raises:
        InvalidRequest: the generation is missing, or is not a number.
    """
    text = publish_context.get(GENERATION, "")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise errors.InvalidRequest(
            f"publish_context has no {GENERATION}; pass the publish_context that "
            "ControllerPublishVolume returned (CSIDriver: attachRequired must be true)"
        )
    return int(text)
