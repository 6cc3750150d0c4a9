"""The command `rbdcsi` with its subcommands, one file each."""

import click

import rbdcsi
from rbdcsi.cli.serve import serve


@click.group()
@click.version_option(rbdcsi.__version__, prog_name="rbdcsi")
def main() -> None:
    """A Container Storage Interface driver for Ceph RBD."""


main.add_command(serve)
