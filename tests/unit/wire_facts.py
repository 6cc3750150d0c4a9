"""Reads the wire facts of CSI (data/csi-1.13.0.txt) into records that can be compared."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "extension",
    "service",
    "rpc",
    "message",
    "field",
    "enum",
    "value",
    "reserved in message",
    "reserved in enum",
]


@dataclass(frozen=True)
class Fact:
    """One thing that both ends of a CSI socket must agree on; names leave the package out."""

    kind: Kind
    owner: str
    name: str = ""
    number: int = 0
    type: str = ""
    marks: frozenset[str] = frozenset()


def read(text: str) -> frozenset[Fact]:
    """Return every fact of the text; a line it does not understand is a ValueError."""
    return frozenset(_walk(text))


def _walk(text: str) -> Iterator[Fact]:
    owners: list[str] = []  # one name for each level of indentation above the line
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        del owners[(len(line) - len(line.lstrip())) // 2 :]
        found, facts = _recognise(line.strip())
        yield from facts(found, ".".join(owners))
        owners.append(found.get("name", ""))


def _recognise(line: str) -> tuple[dict[str, str], "_Reader"]:
    for pattern, reader in _FORMS.items():
        if match := re.fullmatch(pattern, line):
            return match.groupdict(default=""), reader
    raise ValueError(f"not a wire fact: {line!r}")


def _extension(found: dict[str, str], _owner: str) -> Iterator[Fact]:
    yield Fact("extension", found["extended"], found["name"], int(found["number"]), found["type"])


def _service(found: dict[str, str], _owner: str) -> Iterator[Fact]:
    yield Fact("service", found["name"], marks=_marks(found))


def _rpc(found: dict[str, str], owner: str) -> Iterator[Fact]:
    yield Fact("rpc", owner, found["name"], type=found["types"], marks=_marks(found))


def _message(found: dict[str, str], owner: str) -> Iterator[Fact]:
    path = f"{owner}.{found['name']}".lstrip(".")
    yield Fact("message", path, marks=_marks(found))
    if found["reserved"]:
        yield Fact("reserved in message", path, number=int(found["reserved"]))


def _field(found: dict[str, str], owner: str) -> Iterator[Fact]:
    number = int(found["number"])
    yield Fact("field", owner, found["name"], number, found["type"], _marks(found))


def _enum(found: dict[str, str], owner: str) -> Iterator[Fact]:
    path = f"{owner}.{found['name']}".lstrip(".")
    yield Fact("enum", path)
    for name, number, alpha in re.findall(_VALUE, found["values"]):
        marks = {"alpha_enum_value"} if alpha else set[str]()
        yield Fact("value", path, name, int(number), marks=frozenset(marks))


def _reserved(found: dict[str, str], owner: str) -> Iterator[Fact]:
    yield Fact("reserved in enum", owner, number=int(found["number"]))


def _marks(found: dict[str, str]) -> frozenset[str]:
    return frozenset(mark for mark in found["marks"].split(", ") if mark)


_Reader = Callable[[dict[str, str], str], Iterator[Fact]]
_VALUE = r"(\w+)=(\d+)( \(alpha\))?"
_MARKS = r"(\s+\[(?P<marks>[^]]*)\])?"
_FORMS: dict[str, _Reader] = {
    r"extension \.(?P<extended>\S+) (?P<number>\d+) (?P<name>\w+) (?P<type>\w+)": _extension,
    rf"service (?P<name>\w+){_MARKS}": _service,
    rf"rpc (?P<name>\w+)(?P<types>\(\w+\) -> [\w ]+?){_MARKS}": _rpc,
    rf"message (?P<name>\w+){_MARKS}(\s+reserved (?P<reserved>\d+))?": _message,
    rf"enum (?P<name>\w+): (?P<values>{_VALUE}(, {_VALUE})*)": _enum,
    r"reserved (?P<number>\d+)": _reserved,
    rf"(?P<number>\d+) (?P<name>\w+): (?P<type>.+?){_MARKS}": _field,
}
