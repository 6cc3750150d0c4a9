"""What commands print: tables for people, JSON for machines. The keys of JSON do not change.

rich is imported when a table is drawn, so that neither `serve` nor `--json` loads it.
"""

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]

_BYTES = "_bytes"  # the end of a key whose value people read with a unit
_PIPE_WIDTH = 10_000  # a line of a table is not broken where a program reads it
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def as_json(value: object) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2))


def table(rows: Iterable[Row], keys: Sequence[str], *, json_wanted: bool) -> None:
    """Print rows.

    Args:
        rows: JSON's values, by key.
        keys: the columns of the table; JSON has all keys.
        json_wanted: print JSON.
    """
    rows = list(rows)
    if json_wanted:
        as_json(rows)
        return
    from rich.table import Table

    drawn = Table(*map(_heading, keys), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        drawn.add_row(*(_cell(key, row[key]) for key in keys))
    _console().print(drawn)


def details(row: Row, *, json_wanted: bool) -> None:
    """Print one object, a line for each key; rows within it are indented below their key."""
    if json_wanted:
        as_json(row)
        return
    for line in _lines(row, ""):
        click.echo(line)


def paragraph(heading: str, text: str) -> None:
    """Print a text beside its heading, in lines as wide as the terminal."""
    width = shutil.get_terminal_size().columns
    click.echo(
        textwrap.fill(
            text,
            width,
            initial_indent=heading,
            subsequent_indent=" " * len(heading),
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def _lines(row: Row, indent: str) -> Iterable[str]:
    width = max(len(_heading(key)) for key in row) + 2
    for key, value in row.items():
        heading = f"{indent}{_heading(key)}"
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield heading
            for number, each in enumerate(value):
                if number:
                    yield ""
                yield from _lines(each, indent + "  ")
        elif isinstance(value, Mapping) and value:
            yield heading
            yield from (f"{indent}  {name}={each}" for name, each in value.items())
        else:
            yield f"{heading:<{width + len(indent)}}{_cell(key, value, ', ')}"


def _console() -> "Console":
    from rich.console import Console

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(markup=False, highlight=False, emoji=False, width=width)


def _heading(key: str) -> str:
    return key.removesuffix(_BYTES).replace("_", " ").upper()


def _cell(key: str, value: Any, between: str = "\n") -> str:
    if value is None or value in ([], {}, ""):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith(_BYTES):
        return _size(value)
    if isinstance(value, list):
        return between.join(map(str, value))
    return str(value)


def _size(count: int) -> str:
    size = float(count)
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:.4g} {unit}"
