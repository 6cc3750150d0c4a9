"""What Prometheus sees of a controller at work: its own counts, and its census of Ceph."""

import re
import urllib.error
import uuid

import pytest

from e2e import driver, volume
from e2e.clusters import Cluster
from e2e.driver import Driver
from e2e.volume import Volume
from tests import faults
from tests.integration.controller.scrape import Scrape, wait_for
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_volumes_attachments_and_bytes_are_counted(
    controller: Driver,
    known_nodes: tuple[str, str],
    made: Volume,
    pool: str,
    watched: tuple[Driver, Scrape],
) -> None:
    volume.attach(controller, made, known_nodes[0])
    started, get = watched
    started.start()
    cluster = f'cluster="{driver.CLUSTER_ID}"'
    where = f'{cluster},pool="{pool}"'
    node = f'{cluster},node="{known_nodes[0]}",state="attached"'
    wait_for(get, rf"rbdcsi_attachments{{{node}}} 1\.0")
    text = get("metrics")
    in_namespace = f'{cluster},namespace="",pool="{pool}"'
    assert re.search(rf"rbdcsi_volumes{{{in_namespace}}} 1\.0", text)
    assert re.search(rf"rbdcsi_volumes_deleting{{{in_namespace}}} 0\.0", text)
    assert re.search(rf"rbdcsi_pool_available_bytes{{{where}}} [1-9]", text)
    assert re.search(rf"rbdcsi_pool_stored_bytes{{{where}}} \d", text)


@pytest.mark.usefixtures("made")
def test_a_pool_that_ceph_has_not_counted_yet_hides_no_other(
    cluster: Cluster, pool: str, watched: tuple[Driver, Scrape]
) -> None:
    started, get = watched
    new = f"new-{uuid.uuid4().hex[:8]}"
    cluster.wait_until_counted(pool)
    try:
        with faults.frozen(cluster.pid("mgr")):
            cluster.ceph("osd", "pool", "create", new)
            volume.create(started.start(), "first", parameters={"pool": new})
            started.stop()
            started.start()
            where = f'cluster="{driver.CLUSTER_ID}",pool='
            wait_for(get, rf'rbdcsi_pool_available_bytes{{{where}"{pool}"}} [1-9]')
            text = get("metrics")
        assert f'rbdcsi_pool_available_bytes{{{where}"{new}"}}' not in text
        assert re.search(rf'rbdcsi_volumes{{.*pool="{new}"}} 1\.0', text)
    finally:
        cluster.delete_pool(new)


def test_operations_and_steps_are_measured_and_errors_counted(
    watched: tuple[Driver, Scrape],
) -> None:
    started, get = watched
    volume.create(started.start(), "measured", size=16 * volume.MIB)
    with refused("ALREADY_EXISTS"):
        volume.create(started, "measured", size=32 * volume.MIB)
    volume.delete(started, volume.create(started, "measured", size=16 * volume.MIB))
    text = get("metrics")
    for line in (
        r'rbdcsi_ceph_operation_duration_seconds_count{operation="creating image"} [1-9]',
        r'rbdcsi_ceph_operation_errors_total{code="ALREADY_EXISTS",operation="creating image"} 2',
        r'rbdcsi_step_duration_seconds_count{step="create.image"} 1\.0',
        r'rbdcsi_step_duration_seconds_count{step="delete.trash"} 1\.0',
    ):
        assert re.search(line, text), line


def test_a_cluster_that_does_not_answer_is_seen(
    cluster: Cluster, watched: tuple[Driver, Scrape]
) -> None:
    started, get = watched
    started.start()
    line = f'rbdcsi_cluster_ready{{cluster="{driver.CLUSTER_ID}"}}'
    get("readyz")
    assert f"{line} 1.0" in get("metrics")
    with faults.frozen_mon(cluster), pytest.raises(urllib.error.HTTPError, match="503"):
        get("readyz")
    assert f"{line} 0.0" in get("metrics")
