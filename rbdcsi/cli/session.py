"""What the operator's commands have in common: their options, connections, and the question."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from rbdcsi import errors
from rbdcsi.attachments.detach import Detacher, Policy
from rbdcsi.ceph.connections import Connections
from rbdcsi.cli import flags
from rbdcsi.cli.exit_codes import exit_on_errors
from rbdcsi.config import clusters_file
from rbdcsi.config.options import Options, declared_flags
from rbdcsi.operator.facts import Cluster
from rbdcsi.telemetry import logs

with_config = flags.option(
    next(declared for declared in declared_flags() if declared.field_name == "config")
)
_with_json = click.option("--json", "json_wanted", is_flag=True, help="Print JSON.")
with_yes = click.option("--yes", is_flag=True, help="Do not ask.")


def reads(command: Callable[..., None]) -> Callable[..., Any]:
    """Give a command that only reads its options."""
    decorated: Callable[..., Any] = with_config(_with_json(command))
    return decorated


@contextlib.contextmanager
def connections(config: Path) -> Iterator[Connections]:
    """Yield connections to the configured clusters; errors of the body end the program."""
    logs.configure("text", "error")
    with exit_on_errors():
        yield Connections(clusters_file.load(config), timeout=Options.operation_timeout)


def report(error: errors.RbdCsiError) -> None:
    """Print an error that does not end the command."""
    click.echo(f"rbdcsi: {error}", err=True)


def require_complete(clusters: Iterable[Cluster]) -> None:
    """Check that everything could be read.

    Raises:
        Unavailable: a list lacks the rows of a cluster or pool; the message names them.
    """
    failures = [
        f"{name} cannot be read, so its rows are missing: {failure}"
        for cluster in clusters
        for name, failure in (
            (f"cluster {cluster.cluster_id}", cluster.failure),
            *((str(location), location.failure) for location in cluster.locations),
        )
        if failure
    ]
    if failures:
        raise errors.Unavailable("\n".join(failures))


def detacher(pooled: Connections) -> Detacher:
    """Return a detacher that fences a node which does not release a volume."""
    return Detacher(pooled, Policy(fence=True, grace=Options.detach_grace))


def require_consent(danger: str, *, yes: bool) -> None:
    """Ask whether to go on, unless `--yes` says so.

    Args:
        danger: what will happen.
        yes: the option.

    Raises:
        Refused: there is no terminal to ask at.
        Abort: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise errors.Refused(f"{danger}; there is no terminal to ask at: repeat it with --yes")
    click.confirm(f"{danger}. Go on?", abort=True, err=True)


def require_name(kind: str, name: str, confirm: str | None) -> None:
    """Ask for the name of an object that is about to lose data, unless `--confirm` gives it.

    Args:
        kind: the kind of object.
        name: its name.
        confirm: the option; None if it is not given.

    Raises:
        Refused: there is no terminal to ask at, or it is another name.
    """
    if confirm is None:
        if not sys.stdin.isatty():
            raise errors.Refused(
                f"the name of the {kind} must be given, too, and there is no terminal to ask at: "
                f"repeat it with --confirm {name}"
            )
        confirm = click.prompt(f"Type the name of the {kind} ({name})", err=True)
    if confirm != name:
        raise errors.Refused(f"{confirm!r} is not the {kind}, which is {name!r}; nothing is done")
