"""The chart's dashboard: Prometheus has an answer to each query, from a driver at work."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import rados

from e2e import driver, volume
from e2e.clusters import commands, ports
from e2e.driver import Driver
from e2e.release import manifests, prometheus
from e2e.volume import MIB, Volume
from rbdcsi.api import csi_pb2
from tests.integration.node.conftest import wait_until_registered
from tests.refusal import refused

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(600)]

DASHBOARD = json.loads((manifests.CHART / "files/dashboard.json").read_text())
NODE = "node-a"
VARIABLES = {"$cluster": ".*", "$__rate_interval": "1m"}  # as Grafana fills them in


def queries() -> Mapping[str, str]:
    """Return the query of each target, by its panel's title and its legend."""
    return {
        f"{panel['title']}: {target['legendFormat']}": _filled_in(target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    }


def _filled_in(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query
    return query


@pytest.fixture
def scraped(
    installation: driver.Installation,
) -> Iterator[tuple[Driver, Driver, prometheus.Prometheus]]:
    """Give a controller and a node, not yet started, and a Prometheus that scrapes them."""
    with ports.claimed_pair("127.0.0.1") as first, ports.claimed_pair("127.0.0.1") as second:
        addresses = f"127.0.0.1:{first}", f"127.0.0.1:{second}"
        controller = installation.controller("controller", "--metrics-address", addresses[0])
        node = installation.node(NODE, "--metrics-address", addresses[1])
        targets = [
            {"targets": [address], "labels": {"component": component, "pod": f"{component}-0"}}
            for component, address in zip(("controller", "node"), addresses, strict=True)
        ]
        job: dict[str, Any] = {"job_name": "rbdcsi/rbdcsi", "static_configs": targets}
        often = dict.fromkeys(("scrape_interval", "scrape_timeout"), "1s")
        with prometheus.running({"global": often, "scrape_configs": [job]}) as server:
            yield controller, node, server
        node.stop()
        controller.stop()


def test_every_query_has_an_answer(
    admin: rados.Rados,
    pool: str,
    scraped: tuple[Driver, Driver, prometheus.Prometheus],
) -> None:
    controller, node, server = scraped
    controller.start()
    node.start()
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(pool) as ioctx:
        wait_until_registered(ioctx, node)
    made = volume.create(controller, "seen", size=16 * MIB)
    volume.attach(controller, made, NODE)
    volume.stage(node, made)
    controller.stop()
    controller.start()  # it counts at its start
    unattached = Volume(made.id, made.capability, publish_context={"generation": "99"})

    def unanswered() -> list[str]:
        controller.identity.Probe(csi_pb2.ProbeRequest())
        with refused("FAILED_PRECONDITION", "generation"):
            volume.stage(node, unattached)
        return [name for name, query in queries().items() if not server.query(query)]

    commands.wait_until(lambda: not unanswered(), "every query has an answer", 90)
    volume.unstage(node, made)
    volume.detach(controller, made, NODE)
    volume.delete(controller, made)


def test_every_metric_that_it_reads_is_one_that_the_driver_serves() -> None:
    page = (manifests.ROOT / "docs/reference/metrics.md").read_text()
    served = set(re.findall(r"`(rbdcsi_\w+)`", page))
    names = {name for query in queries().values() for name in re.findall(r"rbdcsi_\w+", query)}
    assert {name.removesuffix("_bucket") for name in names} <= served


def test_panels_do_not_overlap_and_each_has_an_id_of_its_own() -> None:
    panels = DASHBOARD["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
