"""Commands that take a handle refuse a malformed one in a line, whatever the command."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from rbdcsi.cli.main import main

CONFIG = """
clusters:
  - clusterID: c
    monitors: ["127.0.0.1:1"]
    pool: p
    user: u
    key: AQBhYmNkAAAAABAAYWJjZGVmZ2hpamtsbW5vcA==
"""
HANDLES = {"volume", "snapshot"}


def _with_handles(group: click.Group, *words: str) -> Iterator[str]:
    """Yield every command that takes a handle, with a malformed one."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            yield from _with_handles(command, *words, name)
            continue
        arguments = [each for each in command.params if isinstance(each, click.Argument)]
        if any(each.name in HANDLES for each in arguments):
            yield " ".join((*words, name, *("broken" for _ in arguments)))
        elif any(each.name in HANDLES for each in command.params):
            yield " ".join((*words, name, "--volume broken"))


COMMANDS = list(_with_handles(main))


def test_the_commands_with_handles_are_found() -> None:
    assert "snapshots show broken" in COMMANDS
    assert "snapshots ls --volume broken" in COMMANDS
    assert "volumes rollback broken broken" in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_malformed_handle_ends_a_command_with_a_message(command: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.touch(mode=0o600)
    config.write_text(CONFIG)
    result = CliRunner().invoke(main, [*command.split(), "--config", str(config)])
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    assert "'broken' does not exist: a " in result.output
