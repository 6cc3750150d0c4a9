"""What Prometheus sees of a controller at work: its own counts, and its census of Ceph."""

import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence

import pytest

from e2e import driver, volume
from e2e.clusters import Cluster, ports
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import Volume
from rbdcsi.attachments import rules, store
from rbdcsi.attachments.fences import Fences
from rbdcsi.attachments.records import Client
from rbdcsi.runtime import clock
from tests import faults
from tests.integration.controller.scrape import Scrape, wait_for
from tests.integration.controller.view import View
from tests.integration.node.conftest import wait_until_registered
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

LOST_CLIENT = "192.0.2.1:0/12345"  # of no machine (RFC 5737)
NEW_POOL = f"new-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def further_pools() -> Sequence[str]:
    return (NEW_POOL,)


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
    cluster.wait_until_counted(pool)
    try:
        with faults.frozen(cluster.pid("mgr")):
            cluster.ceph("osd", "pool", "create", NEW_POOL)
            volume.create(started.start(), "first", parameters={"pool": NEW_POOL})
            started.stop()
            started.start()
            where = f'cluster="{driver.CLUSTER_ID}",pool='
            wait_for(get, rf'rbdcsi_pool_available_bytes{{{where}"{pool}"}} [1-9]')
            text = get("metrics")
        assert f'rbdcsi_pool_available_bytes{{{where}"{NEW_POOL}"}}' not in text
        assert re.search(rf'rbdcsi_volumes{{.*pool="{NEW_POOL}"}} 1\.0', text)
    finally:
        cluster.delete_pool(NEW_POOL)


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


@pytest.fixture
def lost(
    cluster: Cluster, view: View, known_nodes: tuple[str, str], controller: Driver
) -> Iterator[Volume]:
    """Give a volume that is staged at a node which is gone, by a client of another boot."""
    made = volume.create(controller, "lost", size=16 * volume.MIB)
    node_id = known_nodes[0]
    volume.attach(controller, made, node_id)
    generation = view.record(made).attachments[node_id].generation
    client = Client(LOST_CLIENT, "another-machine", "a-boot", "krbd")
    store.Records(view.ioctx).change(
        image_id(made),
        lambda record: rules.stage(record, made.id, node_id, generation, client, clock.now()),
    )
    yield made
    volume.detach(controller, made, node_id)
    volume.delete(controller, made)
    cluster.ceph("osd", "blocklist", "rm", LOST_CLIENT)
    fence = Fences(view.ioctx).get(LOST_CLIENT)
    assert fence
    assert Fences(view.ioctx).change(fence, None)


def test_a_fail_over_is_counted_and_timed(
    known_nodes: tuple[str, str], lost: Volume, watched: tuple[Driver, Scrape]
) -> None:
    started, get = watched
    started.start()
    cluster = f'{{cluster="{driver.CLUSTER_ID}"}}'
    wait_for(get, f"rbdcsi_clients_fenced_total{cluster} 0.0")  # or its first increase is unseen
    volume.detach(started, lost, known_nodes[0])
    text = get("metrics")
    assert f"rbdcsi_clients_fenced_total{cluster} 1.0" in text
    assert f"rbdcsi_fail_over_duration_seconds_count{cluster} 1.0" in text
    started.stop()
    started.start()
    wait_for(get, f"rbdcsi_fences{cluster} 1.0")


@pytest.mark.usefixtures("lost")
def test_a_volume_that_is_staged_at_a_node_which_does_not_live_is_shown(
    known_nodes: tuple[str, str],
    nodes: tuple[Driver, Driver],
    made: Volume,
    watched: tuple[Driver, Scrape],
    view: View,
) -> None:
    started, get = watched
    wait_until_registered(view.ioctx, nodes[0])
    volume.attach(started.start(), made, nodes[0].name)
    volume.stage(nodes[0], made)
    started.stop()
    started.start()
    without = f'rbdcsi_staged_without_node{{cluster="{driver.CLUSTER_ID}",node='
    wait_for(get, f'{without}"{known_nodes[0]}"}} 1.0')
    assert f'{without}"{nodes[0].name}"}} 0.0' in get("metrics")
    volume.unstage(nodes[0], made)


def test_refused_stages_are_counted_by_their_reason(
    installation: driver.Installation, view: View, made: Volume
) -> None:
    with ports.claimed_pair("127.0.0.1") as port:
        address = f"127.0.0.1:{port}"
        node = installation.node("node-m", "--metrics-address", address).start()
        wait_until_registered(view.ioctx, node)
        made.publish_context = {"generation": "1"}
        with refused("FAILED_PRECONDITION", "not attached"):
            volume.stage(node, made)
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        node.stop()
    labels = 'method="NodeStageVolume",reason="not_attached"'
    assert f"rbdcsi_calls_refused_total{{{labels}}} 1.0" in text
