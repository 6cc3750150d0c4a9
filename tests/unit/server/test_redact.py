from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from rbdcsi.api import csi_pb2
from rbdcsi.server import redact

CANARY = "AQCanary=="
SECRET: Any = csi_pb2.csi_secret  # the types of protobuf do not know extensions
Field = descriptor_pb2.FieldDescriptorProto


def test_every_secret_of_every_message_of_csi_becomes_stars() -> None:
    secrets = 0
    for descriptor in csi_pb2.DESCRIPTOR.message_types_by_name.values():
        message: Any = message_factory.GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if field.GetOptions().Extensions[SECRET]:
                getattr(message, field.name)["userKey"] = CANARY
                assert redact.loggable(message) == {field.name: "***"}
                message.Clear()
                secrets += 1
    assert secrets >= 10


def test_what_is_no_secret_is_shown_with_enums_by_name() -> None:
    mode = csi_pb2.VolumeCapability.AccessMode.SINGLE_NODE_WRITER
    request = csi_pb2.CreateVolumeRequest(
        name="pvc-1",
        capacity_range=csi_pb2.CapacityRange(required_bytes=1 << 30),
        volume_capabilities=[
            csi_pb2.VolumeCapability(
                mount=csi_pb2.VolumeCapability.MountVolume(fs_type="xfs", mount_flags=["noatime"]),
                access_mode=csi_pb2.VolumeCapability.AccessMode(mode=mode),
            )
        ],
        parameters={"pool": "rbd"},
        secrets={"userKey": CANARY},
    )
    assert redact.loggable(request) == {
        "name": "pvc-1",
        "capacity_range": {"required_bytes": 1 << 30},
        "volume_capabilities": [
            {
                "mount": {"fs_type": "xfs", "mount_flags": ["noatime"]},
                "access_mode": {"mode": "SINGLE_NODE_WRITER"},
            }
        ],
        "parameters": {"pool": "rbd"},
        "secrets": "***",
    }


def test_secrets_inside_messages_lists_and_maps_become_stars() -> None:
    outer = _message_with_hidden_secrets()
    outer.one.token = outer.many.add().token = outer.named["a"].token = CANARY
    outer.one.plain = "seen"
    assert redact.loggable(outer) == {
        "one": {"token": "***", "plain": "seen"},
        "many": [{"token": "***"}],
        "named": {"a": {"token": "***"}},
    }


def test_an_enum_value_that_is_unknown_is_shown_as_its_number() -> None:
    access = csi_pb2.VolumeCapability.AccessMode()
    access.MergeFromString(b"\x08\x63")
    assert redact.loggable(access) == {"mode": 99}


def _message_with_hidden_secrets() -> Any:
    """Build what CSI could become: a message whose secrets are further down."""
    file = descriptor_pb2.FileDescriptorProto(
        name="hidden.proto", package="hidden", syntax="proto3", dependency=["rbdcsi/api/csi.proto"]
    )
    inner = file.message_type.add(name="Inner")
    token = inner.field.add(name="token", number=1, type=Field.TYPE_STRING)
    token.options.Extensions[SECRET] = True
    inner.field.add(name="plain", number=2, type=Field.TYPE_STRING)
    outer = file.message_type.add(name="Outer")
    entry = outer.nested_type.add(name="NamedEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    _add_inner(entry, "value", 2, Field.LABEL_OPTIONAL)
    _add_inner(outer, "one", 1, Field.LABEL_OPTIONAL)
    _add_inner(outer, "many", 2, Field.LABEL_REPEATED)
    _add_inner(outer, "named", 3, Field.LABEL_REPEATED, ".hidden.Outer.NamedEntry")
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("hidden.Outer"))()


def _add_inner(
    message: descriptor_pb2.DescriptorProto,
    name: str,
    number: int,
    label: Field.Label.ValueType,
    kind: str = ".hidden.Inner",
) -> None:
    message.field.add(
        name=name, number=number, type=Field.TYPE_MESSAGE, label=label, type_name=kind
    )
