"""The metrics of deletions that do not finish."""

from collections.abc import Iterator

import pytest

from rbdcsi.model.ids import LocationId
from rbdcsi.telemetry import metrics
from rbdcsi.volumes.dependants import Dependants
from rbdcsi.volumes.unfinished import UnfinishedDeletions

HERE, THERE, OTHER = (LocationId(*each) for each in (("a", 1, ""), ("a", 2, ""), ("a", 1, "n")))


@pytest.fixture
def unfinished() -> Iterator[UnfinishedDeletions]:
    yield UnfinishedDeletions("a")
    metrics.DELETIONS_UNFINISHED.replace("a", {})
    metrics.DELETIONS_UNFINISHED_OLDEST.replace("a", {})
    metrics.DELETIONS_WAITING.replace("a", {})


def _shown(cluster: str) -> tuple[float | None, float | None]:
    def value(name: str) -> float | None:
        return metrics.REGISTRY.get_sample_value(name, {"cluster": cluster})

    return value("rbdcsi_deletions_unfinished"), value(
        "rbdcsi_deletions_unfinished_oldest_timestamp_seconds"
    )


def test_number_and_oldest_are_by_cluster(unfinished: UnfinishedDeletions) -> None:
    UnfinishedDeletions("b").add(LocationId("b", 1, ""), "1", "1970-01-01T00:03:00+00:00")
    unfinished.add(HERE, "1", "1970-01-01T00:02:00+00:00")
    unfinished.add(HERE, "1", "1970-01-01T00:02:00Z")
    unfinished.add(THERE, "1", "1970-01-01T00:01:00+00:00")
    assert (_shown("a"), _shown("b")) == ((2, 60), (1, 180))
    unfinished.remove(THERE, "1")
    unfinished.remove(THERE, "unknown")
    assert (_shown("a"), _shown("b")) == ((1, 120), (1, 180))


def test_deletions_that_another_controller_finished_are_not_counted(
    unfinished: UnfinishedDeletions,
) -> None:
    for location_id in (HERE, THERE, OTHER):
        for image_id in "12":
            unfinished.add(location_id, image_id, "1970-01-01T00:01:00Z")
    unfinished.keep(HERE, ["2", "3"])
    assert _shown("a") == (5, 60)
    unfinished.keep_locations({HERE, THERE})
    assert _shown("a") == (3, 60)
    unfinished.keep_locations(set())
    assert _shown("a") == (0, None)


def test_deletions_that_wait_are_counted_apart(unfinished: UnfinishedDeletions) -> None:
    def waiting() -> float | None:
        return metrics.REGISTRY.get_sample_value("rbdcsi_deletions_waiting", {"cluster": "a"})

    unfinished.add(HERE, "1", "1970-01-01T00:01:00Z")
    assert waiting() == 0
    for image_id in "123":
        unfinished.wait(HERE, image_id, Dependants(1, 0))
    assert (_shown("a"), waiting()) == ((0, None), 3)
    unfinished.add(HERE, "1", "1970-01-01T00:01:00Z")
    unfinished.remove(HERE, "2")
    assert (_shown("a"), waiting()) == ((1, 60), 1)
    unfinished.keep(HERE, [])
    assert waiting() == 0
