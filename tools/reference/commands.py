"""The operator's commands, from their declarations."""

import inspect
from collections.abc import Iterator

import click

from tools.reference import markdown, sources


def commands() -> str:
    """Return a chapter for each command, with its help and the table of its options."""
    return "\n".join(_chapters(sources.COMMANDS, "rbdcsi"))


def _chapters(group: click.Group, path: str) -> Iterator[str]:
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command is sources.SERVE:
            continue
        line = f"{path} {name}"
        if isinstance(command, click.Group):
            yield from _chapters(command, line)
        else:
            yield _chapter(command, line)


def _chapter(command: click.Command, line: str) -> str:
    usage = " ".join(
        [line, *(each.make_metavar(click.Context(command)) for each in _arguments(command))]
    )
    rows = [
        (", ".join(map(markdown.code, option.opts)), option.help or "", _environment(option))
        for option in command.params
        if isinstance(option, click.Option)
    ]
    help_text = inspect.cleandoc(command.help or "")
    table = markdown.table(("option", "meaning", "environment"), rows)
    return f"## {line}\n\n```text\n{usage} [OPTIONS]\n```\n\n{help_text}\n\n{table}"


def _arguments(command: click.Command) -> list[click.Argument]:
    return [each for each in command.params if isinstance(each, click.Argument)]


def _environment(option: click.Option) -> str:
    return ", ".join(map(markdown.code, option.envvar or ()))
