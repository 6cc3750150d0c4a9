"""Replaces the secrets of a request by stars, so that it can be logged.

CSI marks such fields as `csi_secret`. The marks are read from the message's descriptor, so fields
that CSI adds later are replaced, too.
"""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from rbdcsi.api import csi_pb2

STARS = "***"
_SECRET: Any = csi_pb2.csi_secret  # the types of protobuf do not know extensions


def loggable(message: Message) -> dict[str, object]:
    """Return the set fields of a message by name, secrets as stars, enums by name."""
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: FieldDescriptor, value: Any) -> object:
    if field.GetOptions().Extensions[_SECRET]:
        return STARS
    if field.message_type and field.message_type.GetOptions().map_entry:
        of_value = field.message_type.fields_by_name["value"]
        return {str(key): _one(of_value, one) for key, one in value.items()}
    if field.is_repeated:
        return [_one(field, one) for one in value]
    return _one(field, value)


def _one(field: FieldDescriptor, value: Any) -> object:
    if field.enum_type:
        enum_value = field.enum_type.values_by_number.get(value)
        return enum_value.name if enum_value else value
    return loggable(value) if isinstance(value, Message) else value
