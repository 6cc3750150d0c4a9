"""How a command ends: 0, 1 or 2.

0: as asked. 1: the driver cannot serve; something was refused, failed or could not be read; the
doctor has findings. 2: arguments, flags or configuration are wrong.
"""

import contextlib
import sys
from collections.abc import Iterator

import click

from rbdcsi import errors


@contextlib.contextmanager
def exit_on_errors() -> Iterator[None]:
    """End the program with the message of an error of the body, and without a traceback."""
    try:
        yield
    except errors.RbdCsiError as error:
        for line in str(error).splitlines():
            click.echo(f"rbdcsi: {line}", err=True)
        sys.exit(2 if isinstance(error, errors.ConfigError) else 1)
