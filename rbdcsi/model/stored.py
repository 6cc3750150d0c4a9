"""The one codec of all facts that are kept in Ceph or on a node: versioned JSON, frozen records.

Drivers of different versions work side by side during an upgrade, so every stored value has two
numbers that say which drivers may use it:

- `version`: a driver that knows only a smaller version refuses to read the value;
- `writer`: a driver that knows only a smaller version may read the value, but not rewrite it.

A record keeps the fields that this driver does not know in its field `unknown`, and writes them
back unchanged. A value that cannot be decoded is damaged; the driver guesses nothing from it.

To add a field, declare it with `later`: a field with an ordinary default is required when a value
is read. A new member of an enum is damage to older drivers, so it needs a higher `version`. To keep
older drivers from rewriting a value, put `"writer": N` into the record's `unknown`. To keep them
from using a value while a field is set, give that field a `version` of its own.
"""

import collections.abc
import dataclasses
import enum
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rbdcsi import errors

_Record = TypeVar("_Record")
_Decoder = Callable[[Any, str], Any]

_UNKNOWN = "unknown"


def later(default: Any, *, key: str = "", version: int = 1) -> Any:
    """Declare a field that was added after the first version, so stored values may lack it.

    Args:
        default: the field's value if the stored value lacks it; this value is not written.
        key: the field's name in JSON; empty takes the attribute's name.
        version: of a value in which the field has another value than the default.
    """
    metadata = {"later": True, "key": key, "version": version}
    return dataclasses.field(default=default, metadata=metadata)


def key(name: str, **arguments: Any) -> Any:
    """Declare a field whose name in JSON is `name`; other arguments are `dataclasses.field`'s."""
    return dataclasses.field(metadata={"key": name}, **arguments)


def unknown_fields() -> Any:
    """Declare the field `unknown`, which keeps the fields that a newer driver wrote."""
    return dataclasses.field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Kind(Generic[_Record]):
    """A kind of stored value.

    Attributes:
        record: the frozen dataclass of the decoded value. Its fields may be bool, int, str, an
            enum, another dataclass, a tuple or a mapping by str of these, or one of these or None.
        name: the name in messages, such as "attachment record".
        remedy: the end of the message about damage: the consequence and the repair.
        version: the version that this driver writes, unless a field needs a higher one.
        unversioned: whether a value without a version is read as version 1.
    """

    record: type[_Record]
    name: str
    remedy: str
    version: int = 1
    unversioned: bool = False

    def encode(self, record: _Record) -> str:
        """Return the record as JSON in ASCII.

        Raises:
            Refused: a newer driver wrote it and does not allow this driver to rewrite it.
        """
        writer, newest = getattr(record, _UNKNOWN, {}).get("writer", 1), self._newest()
        if type(writer) is not int or writer > newest:
            raise errors.Refused(
                f"the {self.name} was written by a newer driver, which lets drivers of version "
                f"{writer} and newer change it; this one knows {newest}: use the newer driver"
            )
        version = max(self.version, *_versions_in_use(record))
        return json.dumps({"version": version, **_plain(record)}, separators=(",", ":"))

    def decode(self, text: str, where: str) -> _Record:
        """Return the record that `encode` of this or another version wrote.

        Args:
            text: the stored text.
            where: the object and key, or the file, for messages.

        Raises:
            Failed: the text is damaged, or a newer driver does not allow this one to read it.
        """
        try:
            facts = json.loads(text)
            version = facts.pop("version", 1) if self.unversioned else facts.pop("version")
            newest = self._newest()
            if type(version) is not int or not 1 <= version <= newest:
                raise errors.Failed(
                    f"{where}: {self.name} has version {version}, this driver knows {newest}: run "
                    "the newer driver that wrote it"
                )
            return typing.cast(_Record, _decoder(typing.cast(Any, self.record))(facts, self.name))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise errors.Failed(
                f"{where}: {self.name} is damaged ({error!r}), {self.remedy}"
            ) from error

    def _newest(self) -> int:
        """Return the newest version that this driver can read."""
        fields = dataclasses.fields(typing.cast(Any, self.record))
        return max(self.version, *(_version(field) for field in fields))


def _version(field: dataclasses.Field[Any]) -> int:
    return int(field.metadata.get("version", 1))


def _versions_in_use(record: Any) -> list[int]:
    """Return the versions of the fields that have other values than their defaults."""
    return [
        _version(field)
        for field in dataclasses.fields(record)
        if getattr(record, field.name) != field.default
    ]


def _plain(value: Any) -> Any:
    """Return the value as dicts, lists, strings and numbers, which JSON can express."""
    if dataclasses.is_dataclass(value):
        facts: dict[str, Any] = {}
        for field in dataclasses.fields(value):
            content = getattr(value, field.name)
            is_default = field.metadata.get("later") and content == field.default
            if field.name != _UNKNOWN and not is_default:
                facts[field.metadata.get("key") or field.name] = _plain(content)
        # Last, as a newer driver wrote them: so the text stays the same, and a swap finds it.
        return {**facts, **getattr(value, _UNKNOWN, {})}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


@functools.cache
def _decoder(kind: Any) -> _Decoder:
    """Return the function that turns decoded JSON into a value of this type, or raises."""
    if dataclasses.is_dataclass(kind):
        return _record_decoder(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (each for each in arguments if each is not types.NoneType)
        decode = _decoder(inner)
        return lambda value, path: None if value is None else decode(value, path)
    if origin is tuple:
        each_decoder = _decoder(arguments[0])
        return lambda value, path: tuple(
            each_decoder(each, path) for each in _instance(list, value, path)
        )
    if origin is collections.abc.Mapping:
        value_decoder = _decoder(arguments[1])
        return lambda value, path: {
            name: value_decoder(each, f"{path}.{name}")
            for name, each in _instance(dict, value, path).items()
        }
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return lambda value, _path: kind(value)
    return functools.partial(_instance, kind)


def _record_decoder(kind: Any) -> _Decoder:
    hints = typing.get_type_hints(kind)
    fields = [
        (field.metadata.get("key") or field.name, field.name, _decoder(hints[field.name]), field)
        for field in dataclasses.fields(kind)
        if field.name != _UNKNOWN
    ]
    keeps_unknown = _UNKNOWN in hints

    def decode(value: Any, path: str) -> Any:
        facts = dict(_instance(dict, value, path))
        values = {}
        for json_name, name, decode_field, field in fields:
            if json_name in facts:
                values[name] = decode_field(facts.pop(json_name), f"{path}.{json_name}")
            elif not field.metadata.get("later"):
                raise KeyError(json_name)
        if keeps_unknown:
            values[_UNKNOWN] = facts
        return kind(**values)

    return decode


def _instance(kind: type, value: Any, path: str) -> Any:
    if type(value) is not kind:  # isinstance would accept a bool for an int
        raise TypeError(f"{path} is {value!r}")
    return value
