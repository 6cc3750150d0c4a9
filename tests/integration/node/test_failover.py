"""A node fails in every way; its volumes go on at another node, with all that was written."""

from collections.abc import Callable, Iterator

import pytest
import rados

from e2e.clusters import Cluster
from e2e.driver import Installation
from e2e.failover import here, report, story
from e2e.failover.node import Fault

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def scene(
    cluster: Cluster, installation: Installation, pool: str, admin: rados.Rados
) -> Iterator[story.Scene]:
    """Give a controller and two nodes with the fuse mapper."""
    admin.wait_for_latest_osdmap()
    made = here.scene(cluster, installation, pool, admin)
    yield made
    made.ioctx.close()


@pytest.mark.parametrize("fault", here.FAULTS, ids=lambda fault: fault.value)
def test_all_durable_records_are_there_and_late_writes_are_refused(
    scene: story.Scene, fault: Fault, figures: Callable[[str], None]
) -> None:
    for outcome in story.tell(scene, fault):
        figures(report.line("fuse", outcome))
