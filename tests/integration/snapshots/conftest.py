"""Ceph's own view, a volume, and a controller that the tests kill."""

from collections.abc import Iterator

import pytest

from e2e import driver, volume
from e2e.driver import Driver
from e2e.volume import MIB, Volume
from tests.integration.controller.conftest import view as view
from tests.integration.controller.conftest import watched as watched


@pytest.fixture
def made(controller: Driver, request: pytest.FixtureRequest) -> Iterator[Volume]:
    """Give a volume, named for the test, which is deleted after it."""
    volume_made = volume.create(controller, request.node.name, size=16 * MIB)
    yield volume_made
    volume.delete(controller, volume_made)


@pytest.fixture(scope="module")
def mortal(installation: driver.Installation) -> Driver:
    """Give a controller that is not running."""
    return installation.controller("mortal")


@pytest.fixture
def stopped_after(mortal: Driver, nothing_left: None) -> Iterator[None]:
    """Stop that controller before what is left is counted."""
    assert nothing_left is None  # it looks when the process is gone
    yield
    mortal.stop()
