"""Fixtures over one real cluster a process, and the check that a test leaves nothing behind.

`make test` runs several processes, the workers of pytest-xdist, and each has a cluster of its own.
The tests of one file run in one of them: they share a pool and running drivers.

RBDCSI_TEST_CLUSTER chooses the kind of cluster (`e2e.clusters.KINDS`), RBDCSI_TEST_CEPH_* describe
one that runs already (`e2e.clusters.existing`); RBDCSI_TEST_DRIVER chooses the driver: "tree"
(default), this source tree's, or "image", the image's.
"""

import contextlib
import functools
import itertools
import os
import re
import resource
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import grpc
import hypothesis
import pytest
import rados

from e2e import clusters, driver, errors, leftovers, processes, sweep
from e2e.release import inside
from tests import after_failure

FROM_IMAGE = os.environ.get("RBDCSI_TEST_DRIVER", "tree") == "image"

# Tests are about behaviour: a machine that is busy makes none of them fail.
hypothesis.settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any-machine")

# A sweeper looks again after 60 s at the latest, or when the lease of a killed one ends after 15 s.
_BACKGROUND_SECONDS = 120.0
_FAILED_SECONDS = 40.0  # that of a failed test: Ceph has dropped its clients' watches by then
_FAILED = pytest.StashKey[bool]()

# Half of Ceph's default, and that of the watches which node plugins have. Clients send a sign of
# life every 5 s (objecter_tick_interval), so a living one may starve for 10 s.
WATCH_SECONDS = 15


FIGURES = "figures"  # the name of a test's property that every log shows


def pytest_configure() -> None:
    """Allow this process as many open files as it may have: a connection to Ceph takes 15."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that tests recorded; a worker's own output goes nowhere."""
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if getattr(report, "when", None) == "call":
            for name, text in report.user_properties:
                if name == FIGURES:
                    terminalreporter.write_line(text)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the cluster, so that `-m "not ceph"` runs the rest; put long files first.

    The workers then end at about the same time, with the many short files of `tests/unit`. Within a
    file, and among files of one length, the order stays random.
    """
    lengths: dict[Path, tuple[float, bool]] = {}
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ceph)
        timeout = item.get_closest_marker("timeout")
        length = timeout.args[0] if timeout else 0, item.get_closest_marker("ceph") is not None
        lengths[item.path] = max(length, lengths.get(item.path, length))
    items.sort(key=lambda item: lengths[item.path], reverse=True)


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Give a verb that puts a line of figures into the log of the run."""
    return functools.partial(record_property, FIGURES)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """Skip a test that would have to stop a daemon which is not the test bed's."""
    try:
        yield
    except errors.NotOurs as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a test has failed, for `nothing_left`."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def temporary(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
    """Put the temporary files of this process, and of its children, into one directory.

    Its name is short, because the paths of unix sockets below it must not exceed 107 bytes.
    """
    base = tmp_path_factory.getbasetemp()
    directory = base.parent / worker_id if worker_id != "master" else base / "tmp"
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(directory))
        patch.setattr(tempfile, "tempdir", str(directory))
        shared = inside.shared(directory) if FROM_IMAGE else contextlib.nullcontext()
        with shared, sweep.at_end(directory):
            yield directory


@pytest.fixture(scope="session")
def program(temporary: Path) -> Sequence[str]:
    """Give the command that is the driver."""
    return inside.program(temporary) if FROM_IMAGE else driver.PROGRAM


@pytest.fixture(scope="session")
def cluster(temporary: Path) -> Iterator[clusters.Cluster]:
    """Give the run's cluster, started when the first test asks for it."""
    assert temporary.is_dir()
    with clusters.start() as running:
        if running.ours:  # many tests wait for Ceph to drop a killed client
            running.ceph("config", "set", "osd", "osd_client_watch_timeout", str(WATCH_SECONDS))
        yield running


@pytest.fixture(scope="module")
def pool(cluster: clusters.Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the name of a replicated pool that this module's tests share; it ends with them."""
    if cluster.pool:
        yield cluster.pool
        return
    module = re.sub(r"\W+", "-", request.path.stem)
    name = f"{module}-{uuid.uuid4().hex[:8]}"
    cluster.create_pool(name)
    yield name
    cluster.delete_pool(name)


@pytest.fixture(scope="session")
def admin(cluster: clusters.Cluster) -> Iterator[rados.Rados]:
    """Give a connection as the cluster's own user with bounded operations."""
    with cluster.connection() as connection:
        yield connection


@pytest.fixture
def nothing_left(
    request: pytest.FixtureRequest, temporary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Fail the test when Ceph or this host holds more after it than before.

    Ceph is looked at when the test uses `cluster`. For a whole module:
    `pytestmark = pytest.mark.usefixtures("nothing_left")`.

    After a test that has failed, its volumes are taken down, and nothing more is counted.
    """
    processes.adopt()
    uses_ceph = "cluster" in request.fixturenames
    cluster: clusters.Cluster | None = request.getfixturevalue("cluster") if uses_ceph else None
    connection: rados.Rados | None = request.getfixturevalue("admin") if uses_ceph else None

    def note() -> Counter[str]:
        host = leftovers.on_host(tmp_path_factory.getbasetemp(), temporary)
        return host + leftovers.in_ceph(connection, cluster) if connection else host

    before = note()
    yield
    has_failed = request.node.stash.get(_FAILED, False)
    if has_failed and "controller" in request.fixturenames:
        with contextlib.suppress(grpc.RpcError, AssertionError):  # the controller may not run
            controller = request.getfixturevalue("controller")
            after_failure.take_down(controller, leftovers.difference(before, note()))
    # Deleted volumes' data goes in the background.
    seconds = _FAILED_SECONDS if has_failed else _BACKGROUND_SECONDS
    ends_at = time.monotonic() + seconds
    while (left := leftovers.difference(before, note())) and time.monotonic() < ends_at:
        time.sleep(0.1)
    assert has_failed or not left, f"the test left behind:\n{left}"
