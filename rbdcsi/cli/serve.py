"""`rbdcsi serve`: its flags are generated from `config.options.Options`."""

from collections.abc import Callable
from typing import Any

import click

from rbdcsi import errors
from rbdcsi.cli import flags
from rbdcsi.cli.exit_codes import exit_on_errors
from rbdcsi.config import clusters_file
from rbdcsi.config.options import Options, declared_flags
from rbdcsi.server import lifecycle
from rbdcsi.telemetry import logs


def _with_flags(command: Callable[..., None]) -> Callable[..., None]:
    for declared in reversed(declared_flags()):
        command = flags.option(declared)(command)
    return command


@click.command()
@click.argument("role", type=click.Choice(["controller", "node", "all"]))
@_with_flags
def serve(**settings: Any) -> None:
    """Serve CSI as controller, as node, or as both in one process."""
    logs.configure(settings["log_format"], settings["log_level"])
    wait_for_stop = lifecycle.stop_on_signals()
    with exit_on_errors():
        for declared in declared_flags():
            if declared.flag.parse:
                text = settings[declared.field_name]
                settings[declared.field_name] = declared.flag.parse(text)
        options = Options(**settings)
        if options.role != "controller" and not options.node_id:
            raise errors.ConfigError(f"`serve {options.role}` needs --node-id, this node's name")
        configured = clusters_file.load(options.config)
        lifecycle.require_bindings()
        lifecycle.leave(finished=lifecycle.run(options, configured, wait_for_stop))
