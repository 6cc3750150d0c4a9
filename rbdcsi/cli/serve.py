"""`rbdcsi serve`: its flags are generated from `config.options.Options`."""

from collections.abc import Callable
from typing import Any

import click

from rbdcsi import errors
from rbdcsi.cli.exit_codes import exit_on_errors
from rbdcsi.config import clusters_file
from rbdcsi.config.options import DeclaredFlag, Flag, Options, declared_flags
from rbdcsi.server import lifecycle
from rbdcsi.telemetry import logs


def _with_flags(command: Callable[..., None]) -> Callable[..., None]:
    for declared in reversed(declared_flags()):
        command = _option(declared)(command)
    return command


def _option(declared: DeclaredFlag) -> Callable[[Any], Any]:
    """Declare a flag that the environment may give, too, as RBDCSI_FLAG."""
    flag = declared.flag
    name = flag.name or declared.field_name
    with_default = {} if declared.default is None else {"default": declared.default}
    return click.option(
        f"--{name.replace('_', '-')}",
        declared.field_name,
        type=_click_type(flag),
        metavar=flag.metavar,
        multiple=flag.repeated,
        required=declared.required,
        envvar=[f"RBDCSI_{name.upper()}", *flag.variables],
        show_envvar=True,
        show_default=True,
        help=flag.help,
        **with_default,
    )


def _click_type(flag: Flag) -> Any:
    if flag.choices:
        return click.Choice(flag.choices)
    if flag.kind is int:
        return click.IntRange(_whole(flag.least), _whole(flag.most))
    if flag.kind is float:
        return click.FloatRange(
            flag.least if flag.above is None else flag.above, min_open=flag.above is not None
        )
    return flag.kind


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


@click.command()
@click.argument("role", type=click.Choice(["controller", "node", "all"]))
@_with_flags
def serve(**settings: Any) -> None:
    """Serve CSI as controller, as node, or as both in one process."""
    logs.configure(settings["log_format"], settings["log_level"])
    stopping = lifecycle.stop_on_signals()
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
        lifecycle.leave(finished=lifecycle.run(options, configured, stopping))
