"""Turns the declarations of `config.options` into click's options."""

from collections.abc import Callable
from typing import Any

import click

from rbdcsi.config.options import DeclaredFlag, Flag


def option(declared: DeclaredFlag) -> Callable[[Any], Any]:
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
