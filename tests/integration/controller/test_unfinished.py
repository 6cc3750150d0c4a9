"""A deletion that does not finish is seen: which image, since when, and what holds it."""

import datetime
import json
import re
from collections.abc import Iterator

import pytest

from e2e import driver, volume
from e2e.clusters import commands
from e2e.driver import CLUSTER_ID, Driver
from e2e.pool import image_id
from e2e.volume import MIB
from rbdcsi.attachments import store
from rbdcsi.ceph import connections
from rbdcsi.config import clusters_file
from rbdcsi.model import ids
from rbdcsi.volumes.purge import Purger
from tests.integration.controller.scrape import Scrape, wait_for
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

NUMBER = f'rbdcsi_deletions_unfinished{{cluster="{CLUSTER_ID}"}}'
OLDEST = f'rbdcsi_deletions_unfinished_oldest_timestamp_seconds{{cluster="{CLUSTER_ID}"}}'


def test_deletion_that_a_client_holds_is_logged_and_counted_until_it_finishes(
    watched: tuple[Driver, Scrape], view: View
) -> None:
    controller, get = watched
    made = volume.create(controller.start(), "held", size=16 * MIB)
    wait_for(get, rf"{NUMBER} 0\.0")
    with view.image(made, readonly=False) as image:
        (watcher,) = image.watchers_list()
        volume.delete(controller, made)
        wait_for(get, rf"{NUMBER} 1\.0")
        begun = view.record(made).deleting
        assert begun
        shown = re.search(rf"{OLDEST} (\S+)", get("metrics"))
        assert shown
        assert float(shown[1]) == datetime.datetime.fromisoformat(begun).timestamp()
        line = _line(controller, "has the image open")
        assert (line["image_id"], line["deleted_since"]) == (image_id(made), begun)
        assert line["open_by"] == [watcher["addr"]]
        assert (line["cluster"], line["pool"]) == (CLUSTER_ID, view.ioctx.get_pool_name())
        assert view.trashed() == [image_id(made)]
    view.wait_until_gone(image_id(made))
    wait_for(get, rf"{NUMBER} 0\.0")
    assert OLDEST not in get("metrics")


def test_deletion_that_was_not_repeated_after_a_crash_is_counted(
    watched: tuple[Driver, Scrape], installation: driver.Installation, view: View
) -> None:
    mortal = installation.controller("mortal")
    made = volume.create(mortal.start(), "forgotten", size=16 * MIB)
    mortal.stop()
    mortal.start(kill_after="delete.record")
    with refused("UNAVAILABLE"):
        volume.delete(mortal, made)
    mortal.wait_for_death()
    mortal.stop()
    controller, get = watched
    controller.start()
    wait_for(get, rf"{NUMBER} 1\.0")
    assert view.images() == ["csi-forgotten"]
    assert _line(controller, "is not in the trash yet")["image_id"] == image_id(made)
    volume.delete(controller, made)
    view.wait_until_gone(image_id(made))
    wait_for(get, rf"{NUMBER} 0\.0")


def _line(controller: Driver, words: str) -> dict[str, object]:
    lines = [line for line in controller.words().splitlines() if words in line]
    return dict(json.loads(lines[-1]))


@pytest.fixture
def purger(installation: driver.Installation) -> Iterator[Purger]:
    """Give a purger in this process."""
    configured = clusters_file.load(installation.controller("unused").config)
    pooled, apart = (connections.Connections(configured, timeout=10) for _ in range(2))
    made = Purger(CLUSTER_ID, pooled, apart)
    yield made
    made.stop()


def test_purge_goes_on_after_an_unexpected_error(
    installation: driver.Installation,
    purger: Purger,
    view: View,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    controller = installation.controller("stopped").start()
    made = volume.create(controller, "swept", size=16 * MIB)
    with view.image(made, readonly=False):
        volume.delete(controller, made)
        controller.stop()
    assert view.trashed() == [image_id(made)]
    deleting = store.Records.deleting
    failed: list[bool] = []

    def broken(records: store.Records) -> list[str]:
        if not failed:
            failed.append(True)
            raise ZeroDivisionError("unexpected")
        return deleting(records)

    monkeypatch.setattr(store.Records, "deleting", broken)
    purger.start()
    commands.wait_until(lambda: bool(failed), "the error has come")
    purger.wake(ids.parse(made.id).location)
    view.wait_until_gone(image_id(made))
