"""The flags of `rbdcsi serve`, from their declarations."""

from collections.abc import Iterator
from pathlib import Path

import click

from tools.reference import markdown, sources


def flags() -> str:
    """Return the table of the flags."""
    return markdown.table(("flag", "meaning", "type", "default", "environment"), _rows())


def _rows() -> Iterator[tuple[str, str, str, str, str]]:
    for option in sources.SERVE.params:
        if isinstance(option, click.Option):
            yield (
                markdown.code(option.opts[0]),
                option.help or "",
                _kind(option),
                "needed" if option.required else markdown.code(_default(option)),
                ", ".join(map(markdown.code, option.envvar or ())),
            )


def _kind(option: click.Option) -> str:
    if option.is_flag:
        return "switch"
    if isinstance(option.type, click.Choice):
        return ", ".join(option.type.choices)
    return (option.metavar or option.type.name).removesuffix(" range").lower()


def _default(option: click.Option) -> str:
    default = option.default
    return str(default) if isinstance(default, str | int | float | Path) else ""
