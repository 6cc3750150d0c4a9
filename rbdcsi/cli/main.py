"""The command `rbdcsi` with its subcommands, one file each."""

import importlib

import click

import rbdcsi
from rbdcsi.cli.exit_codes import exit_on_errors
from rbdcsi.cli.serve import serve
from rbdcsi.server import lifecycle

_OPERATOR = ("volumes", "snapshots", "attachments", "nodes", "fences", "doctor")


class _Commands(click.Group):
    """Loads the operator's commands when they are asked for: `serve` starts without them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_OPERATOR]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _OPERATOR:
            return super().get_command(ctx, cmd_name)
        with exit_on_errors():
            lifecycle.require_bindings()
        module = importlib.import_module(f"rbdcsi.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=_Commands)
@click.version_option(rbdcsi.__version__, prog_name="rbdcsi")
def main() -> None:
    """A Container Storage Interface driver for Ceph RBD."""


main.add_command(serve)
