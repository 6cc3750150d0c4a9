"""A controller, two nodes that run, and a shell at which an operator works."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import rados

from e2e import driver, leftovers, volume
from e2e.clusters import Cluster
from e2e.driver import Driver
from e2e.pool import wait_until_registered
from e2e.volume import Volume
from rbdcsi.attachments.fences import Fences
from tests.integration.controller.view import View
from tests.integration.operator.rollback_bed import SIZE, Bed
from tests.integration.operator.shell import Shell

_HOLD = """
import sys
import rados, rbd
conf, keyring, name, pool, image_id = sys.argv[1:]
client = rados.Rados(name=name, conffile=conf, conf={"keyring": keyring})
client.connect()
image = rbd.Image(client.open_ioctx(pool), image_id=image_id)
print(client.get_addrs(), flush=True)
sys.stdin.read()
image.close()
"""


@pytest.fixture(scope="module")
def view(
    admin: rados.Rados, pool: str, controller: Driver, nodes: tuple[Driver, Driver]
) -> Iterator[View]:
    """Give the module's pool, which two nodes are registered in."""
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(pool) as opened:
        for node in nodes:
            wait_until_registered(opened, node.name)
        assert controller.process
        yield View(opened)


@pytest.fixture(scope="module")
def shell(installation: driver.Installation, cluster: Cluster) -> Shell:
    """Give the shell of an operator."""
    return Shell(installation.program, installation.config, cluster)


Hold = Callable[[Volume], contextlib.AbstractContextManager[str]]


@pytest.fixture(scope="module")
def hold(cluster: Cluster, pool: str) -> Hold:
    """Give a verb that opens a volume's image in a process of its own, and yields its address."""

    @contextlib.contextmanager
    def opened(made: Volume) -> Iterator[str]:
        image_id = made.id.rpartition(":")[2]
        arguments = (cluster.conf, cluster.keyring, f"client.{cluster.user}", pool, image_id)
        argv = [sys.executable, "-c", _HOLD, *map(str, arguments)]
        # Its standard input ends with the body, and it closes the image: a watch ends at once then.
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            yield process.stdout.readline().strip()

    return opened


@pytest.fixture
def no_fences_left(view: View, admin: rados.Rados, cluster: Cluster) -> Iterator[None]:
    """Remove the fences and the blocklist entries that a test has made."""
    before = set(leftovers.blocklisted(admin))
    yield
    fences = Fences(view.ioctx)
    for address, _ in list(fences.each()):
        fences.remove(address)
    for address in set(leftovers.blocklisted(admin)) - before:
        cluster.ceph("osd", "blocklist", "rm", address)


@pytest.fixture(scope="module")
def bed(controller: Driver, nodes: tuple[Driver, Driver], view: View, shell: Shell) -> Bed:
    """Give the drivers, Ceph and a shell, with which volumes are rolled back."""
    return Bed(controller, nodes, view, shell)


@pytest.fixture
def made(bed: Bed, request: pytest.FixtureRequest) -> Iterator[Volume]:
    """Give a volume, named for the test, which is deleted after it with its snapshots."""
    name = re.sub(r"[\W_]+", "-", request.node.name)[:60].strip("-")
    volume_made = volume.create(bed.controller, name, size=SIZE)
    yield volume_made
    bed.remove(volume_made)


@pytest.fixture
def raw(bed: Bed, request: pytest.FixtureRequest) -> Iterator[Volume]:
    """Give a raw block volume; see `made`."""
    name = re.sub(r"[\W_]+", "-", request.node.name)[:60].strip("-")
    volume_made = volume.create(bed.controller, name, size=SIZE, capability=volume.raw())
    yield volume_made
    bed.remove(volume_made)
