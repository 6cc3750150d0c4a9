"""The values of the chart, from values.yaml and its schema.

A value's meaning is the comment beside it in values.yaml, or the comment lines right above it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from tools.reference import markdown, sources

_VALUES = sources.CHART / "values.yaml"
_SCHEMA = sources.CHART / "values.schema.json"


class Value(NamedTuple):
    """One value of the chart, by its path."""

    path: str
    kind: str
    default: str
    meaning: str


def table() -> str:
    """Return the table of the values."""
    rows = (
        (markdown.code(each.path), _sentence(each.meaning), each.kind, markdown.code(each.default))
        for each in values()
    )
    return markdown.table(("value", "meaning", "type", "default"), rows)


def values() -> Iterator[Value]:
    """Yield all values in the order of values.yaml."""
    text = _VALUES.read_text()
    schema = json.loads(_SCHEMA.read_text())
    root = yaml.compose(text, yaml.SafeLoader)
    yield from _below("", root, text.splitlines(), schema, schema)


def _below(
    above: str, mapping: Any, lines: list[str], schema: Any, root: Mapping[str, Any]
) -> Iterator[Value]:
    """Yield the values of a mapping; its own comment is the meaning of a row without a default."""
    for key, value in mapping.value:
        path = f"{above}{key.value}"
        kind = _resolved(schema.get("properties", {}).get(key.value, {}), root)
        meaning = _comment(lines, key.start_mark.line)
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            if meaning:
                yield Value(path, "object", "", meaning)
            yield from _below(f"{path}.", value, lines, kind, root)
        else:
            shown = lines[value.start_mark.line][value.start_mark.column :]
            if value.end_mark.line == value.start_mark.line:
                shown = shown[: value.end_mark.column - value.start_mark.column]
            else:
                shown = json.dumps(yaml.safe_load(yaml.serialize(value)))
            yield Value(path, _kind(kind), shown, meaning)


def _sentence(comment: str) -> str:
    return f"{comment[:1].upper()}{comment[1:].removesuffix('.')}." if comment else ""


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref", "")
    return root["definitions"][reference.rpartition("/")[2]] if reference else schema


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return "list"
    return str(schema.get("type", "string"))


def _comment(lines: list[str], at: int) -> str:
    """Return the comment at the end of a line, or the block of comment lines right above it."""
    beside = re.search(r"\s#\s(.*)$", lines[at])
    if beside:
        return beside[1]
    block: list[str] = []
    while at and lines[at - 1].lstrip().startswith("#"):
        at -= 1
        block.insert(0, lines[at].strip().removeprefix("#").strip())
    return " ".join(block)
