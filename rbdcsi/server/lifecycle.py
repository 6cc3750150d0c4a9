"""The life of the process: serve, stop on a signal, and end even if threads are stuck."""

import contextlib
import ctypes
import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable

from rbdcsi import errors
from rbdcsi.config import clusters
from rbdcsi.config.options import Options
from rbdcsi.server.activity import Activity

# gRPC's core reads these when it is first imported. By default it writes its own log lines to
# stderr and runs fork handlers, which the children that run host commands do not need.
_GRPC_ENVIRONMENT = {"GRPC_VERBOSITY": "NONE", "GRPC_ENABLE_FORK_SUPPORT": "false"}

_M_ARENA_MAX = -8  # <malloc.h>


def stop_on_signals() -> Callable[[], object]:
    """Return a function that waits for SIGTERM or SIGINT, also for one that came before.

    The signal goes through a pipe (Python: signal.set_wakeup_fd). The main thread runs no handler
    if the signal comes just before it begins to wait for a lock, or in another thread.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    return functools.partial(os.read, reading, 1)


def require_bindings() -> None:
    """Check that Ceph's Python bindings can be imported; no Python package index has them.

    Raises:
        ConfigError: a binding cannot be imported; the message names its Debian package.
    """
    for module, package in (("rados", "python3-rados"), ("rbd", "python3-rbd")):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise errors.ConfigError(
                f"Ceph's Python module {module} cannot be imported ({error}); install the Debian "
                f"package {package} for the Python that runs rbdcsi: {sys.executable}"
            ) from error


def run(options: Options, configured: clusters.Config, wait_for_stop: Callable[[], object]) -> bool:
    """Serve until `wait_for_stop` returns.

    Args:
        options: the options of the process.
        configured: the configured clusters.
        wait_for_stop: returns when the server is to end.

    Returns:
        Whether every call ended within `stop_grace`; if not, threads of this process still run.

    Raises:
        Refused: a socket cannot be opened.
    """
    for name, value in _GRPC_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _share_memory()
    from rbdcsi.server import app, grpc_server, health  # gRPC reads its environment on import

    application = app.build(options, configured)
    activity = Activity()
    with contextlib.ExitStack() as running:
        application.start()
        running.callback(application.stop)
        if options.metrics_address:
            probe = functools.partial(grpc_server.probe, options.socket, activity)
            running.enter_context(health.serving(options.metrics_address, probe))
        return grpc_server.serve(
            options, application.add_to, wait_for_stop, application.locks, activity
        )


def leave(*, finished: bool) -> None:
    """End the program, even if Python would wait for threads that are stuck in the kernel."""
    sys.stderr.flush()
    if not finished:
        os._exit(0)


def _share_memory() -> None:
    """Use two heaps for all threads: by default each of 256 threads keeps the most it ever needed.

    mallopt(3): M_ARENA_MAX; glibc applies it to heaps that are made later.
    """
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
