"""The command `rbdcsi`: flags and environment in, exit codes out.

0: stopped as asked; 1: the driver cannot serve; 2: flags or configuration are wrong.
"""

import contextlib
import ctypes
import functools
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

import rbdcsi
from rbdcsi import config, errors, logs
from rbdcsi.options import Options, parse_address, parse_endpoint, parse_topology

# Read by gRPC's core when it is first imported, so before rbdcsi.server: it writes its own log
# lines to stderr, and has no business in the children that host commands are run in.
_GRPC_ENVIRONMENT = {"GRPC_VERBOSITY": "NONE", "GRPC_ENABLE_FORK_SUPPORT": "false"}

_M_ARENA_MAX = -8  # <malloc.h>


def _option(flag: str, *also_from: str, **settings: Any) -> Callable[[Any], Any]:
    """Declare a flag that the environment may give, too, as RBDCSI_FLAG."""
    variable = "RBDCSI_" + flag.removeprefix("--").upper().replace("-", "_")
    defaults = {"show_envvar": True, "show_default": True}
    return click.option(flag, envvar=[variable, *also_from], **defaults | settings)


@click.group()
@click.version_option(rbdcsi.__version__, prog_name="rbdcsi")
def main() -> None:
    """A Container Storage Interface driver for Ceph RBD."""


@main.command()
@click.argument("role", type=click.Choice(["controller", "node", "all"]))
@_option("--endpoint", "CSI_ENDPOINT", required=True, help="The unix socket: unix:///path.")
@_option(
    "--config",
    default="/etc/rbdcsi/config.yaml",
    type=click.Path(path_type=Path),
    help="The YAML file of the clusters.",
)
@_option("--node-id", default="", help="This node's id; needed by node and all.")
@_option(
    "--kubelet-dir",
    default=Options.kubelet_dir,
    type=click.Path(path_type=Path),
    help="Volumes are mounted below it and nowhere else.",
)
@_option(
    "--state-dir",
    default=Options.state_dir,
    type=click.Path(path_type=Path),
    help="The mappers' own files; may be lost at a reboot.",
)
@_option(
    "--daemon-cgroup",
    default=None,
    type=click.Path(path_type=Path),
    help="Start the mappers' daemons in this control group (version 2): they outlive a container.",
)
@_option(
    "--mapper",
    default=Options.mapper,
    type=click.Choice(["auto", "krbd", "nbd", "fuse"]),
    help="How images become block devices; auto takes what the kernel has.",
)
@_option(
    "--max-volumes",
    default=Options.max_volumes,
    type=click.IntRange(0),
    help="Volumes that this node may hold; 0 is no limit.",
)
@_option(
    "--topology", multiple=True, metavar="KEY=VALUE", help="Where this node is; may be repeated."
)
@_option(
    "--metrics-address",
    default="",
    metavar="HOST:PORT",
    help="Serve /metrics, /livez and /readyz there.",
)
@_option(
    "--log-format",
    default=Options.log_format,
    type=click.Choice(["json", "text"]),
    help="How a log line is written.",
)
@_option(
    "--log-level",
    default=Options.log_level,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="The least severe log lines that are written.",
)
@_option(
    "--workers",
    default=Options.workers,
    type=click.IntRange(1, 1024),
    help="Calls served at the same time.",
)
@_option(
    "--max-concurrent",
    default=Options.max_concurrent,
    type=click.IntRange(1),
    help="Calls served and waiting; more are refused.",
)
@_option(
    "--max-message-size",
    default=Options.max_message_size,
    type=click.IntRange(4096),
    help="Bytes of a request; larger ones are refused.",
)
@_option(
    "--operation-timeout",
    default=Options.operation_timeout,
    type=click.FloatRange(0, min_open=True),
    help="Seconds of one Ceph operation.",
)
@_option("--grpc-health", is_flag=True, help="Serve gRPC's health service, too.")
@_option("--grpc-reflection", is_flag=True, help="Serve gRPC's reflection, too.")
@_option(
    "--stop-grace",
    default=Options.stop_grace,
    type=click.FloatRange(0),
    help="Seconds that running calls have to finish after SIGTERM.",
)
def serve(endpoint: str, metrics_address: str, topology: tuple[str, ...], **settings: Any) -> None:
    """Serve CSI as controller, as node, or as both in one process."""
    logs.configure(settings["log_format"], settings["log_level"])
    stopping = stop_on_signals()
    with _exit_on_errors():
        options = Options(
            socket=parse_endpoint(endpoint),
            metrics_address=parse_address(metrics_address) if metrics_address else None,
            topology=parse_topology(topology),
            **settings,
        )
        if options.role != "controller" and not options.node_id:
            raise config.ConfigError(f"`serve {options.role}` needs --node-id, this node's name")
        clusters = config.load(options.config)
        _require_bindings()
        leave(_run(options, clusters, stopping))


def leave(finished: bool) -> None:
    """End the program, even if threads that are stuck in the kernel would keep Python waiting."""
    sys.stderr.flush()
    if not finished:
        os._exit(0)


def _share_memory() -> None:
    """Give all threads two heaps in place of one each: 32 workers else keep what one needed once.

    mallopt(3): M_ARENA_MAX; glibc reads it for heaps that are made later.
    """
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _run(options: Options, clusters: config.Config, stopping: threading.Event) -> bool:
    """Serve until a signal; whether every call was over in time."""
    for name, value in _GRPC_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _share_memory()
    from rbdcsi import app, health, server
    from rbdcsi.progress import Progress

    application = app.build(options, clusters)
    progress = Progress()
    with contextlib.ExitStack() as running:
        application.start()
        running.callback(application.stop)
        if options.metrics_address:
            probe = functools.partial(server.probe, options.socket, progress)
            running.enter_context(health.serving(options.metrics_address, probe))
        return server.serve(options, application.add_to, stopping, application.locks, progress)


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    return stopping


def _require_bindings() -> None:
    """Refuse to start without Ceph's Python bindings, which no Python package index has."""
    for module, package in (("rados", "python3-rados"), ("rbd", "python3-rbd")):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise config.ConfigError(
                f"Ceph's Python module {module} cannot be imported ({error}); install the Debian "
                f"package {package} for the Python that runs rbdcsi: {sys.executable}"
            ) from error


@contextlib.contextmanager
def _exit_on_errors() -> Iterator[None]:
    """End the program with the words of an error and nothing else."""
    try:
        yield
    except errors.RbdCsiError as error:
        for line in str(error).splitlines():
            click.echo(f"rbdcsi: {line}", err=True)
        sys.exit(2 if isinstance(error, config.ConfigError) else 1)
