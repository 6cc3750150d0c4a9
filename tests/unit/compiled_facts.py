"""Says of protobuf descriptors what `wire_facts.read` says of the published text."""

from collections.abc import Iterable, Iterator

from google.protobuf import descriptor, descriptor_pb2

from tests.unit.wire_facts import Fact


def of(file: descriptor.FileDescriptor) -> frozenset[Fact]:
    """Return every fact of the compiled file."""
    return frozenset(_walk(file))


def _walk(file: descriptor.FileDescriptor) -> Iterator[Fact]:
    yield from _extensions(file.extensions_by_name.values())
    for service in file.services_by_name.values():
        yield from _service(service)
    for message in file.message_types_by_name.values():
        yield from _message(message)
    for enum in file.enum_types_by_name.values():
        yield from _enum(enum)


def _extensions(extensions: Iterable[descriptor.FieldDescriptor]) -> Iterator[Fact]:
    for extension in extensions:
        extended = _name(extension.containing_type)
        yield Fact("extension", extended, extension.name, extension.number, _type(extension))


def _service(service: descriptor.ServiceDescriptor) -> Iterator[Fact]:
    yield Fact("service", _name(service), marks=_options(service))
    for method in service.methods:
        request = "stream " * method.client_streaming + _name(method.input_type)
        response = "stream " * method.server_streaming + _name(method.output_type)
        types = f"({request}) -> {response}"
        yield Fact("rpc", _name(service), method.name, type=types, marks=_options(method))


def _message(message: descriptor.Descriptor) -> Iterator[Fact]:
    yield Fact("message", _name(message), marks=_options(message))
    yield from _extensions(message.extensions)
    for field in message.fields:
        yield _field(field)
    for number in _reserved_in_message(message):
        yield Fact("reserved in message", _name(message), number=number)
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            yield from _message(nested)
    for enum in message.enum_types:
        yield from _enum(enum)


def _field(field: descriptor.FieldDescriptor) -> Fact:
    oneof = {f"oneof {field.containing_oneof.name}"} if field.containing_oneof else set[str]()
    marks = _options(field) | oneof
    return Fact(
        "field",
        _name(field.containing_type),
        field.name,
        field.number,
        _label_and_type(field),
        marks,
    )


def _enum(enum: descriptor.EnumDescriptor) -> Iterator[Fact]:
    yield Fact("enum", _name(enum), marks=_options(enum))
    for value in enum.values:
        yield Fact("value", _name(enum), value.name, value.number, marks=_options(value))
    for number in _reserved_in_enum(enum):
        yield Fact("reserved in enum", _name(enum), number=number)


def _reserved_in_message(message: descriptor.Descriptor) -> Iterator[int]:
    proto = descriptor_pb2.DescriptorProto()
    message.CopyToProto(proto)
    for reserved in proto.reserved_range:
        yield from range(reserved.start, reserved.end)


def _reserved_in_enum(enum: descriptor.EnumDescriptor) -> Iterator[int]:
    proto = descriptor_pb2.EnumDescriptorProto()
    enum.CopyToProto(proto)
    for reserved in proto.reserved_range:
        yield from range(reserved.start, reserved.end + 1)  # inclusive, unlike a message's


def _label_and_type(field: descriptor.FieldDescriptor) -> str:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return f"map<{_type(entry.fields_by_name['key'])},{_type(entry.fields_by_name['value'])}>"
    return "repeated " * field.is_repeated + _type(field)


def _type(field: descriptor.FieldDescriptor) -> str:
    declared = field.message_type or field.enum_type
    return _name(declared) if declared is not None else _SCALARS[field.type]


def _name(
    thing: descriptor.Descriptor | descriptor.EnumDescriptor | descriptor.ServiceDescriptor | None,
) -> str:
    return "" if thing is None else thing.full_name.removeprefix("csi.v1.")


def _options(thing: descriptor.DescriptorBase) -> frozenset[str]:
    return frozenset(option.name for option, value in thing.GetOptions().ListFields() if value)


_SCALARS: dict[int, str] = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in descriptor_pb2.FieldDescriptorProto.Type.items()
}
