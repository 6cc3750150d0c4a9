"""The module's pool as Ceph's own tools see it."""

from collections.abc import Iterator

import pytest
import rados

from tests.integration.controller.view import View


@pytest.fixture(scope="module")
def view(admin: rados.Rados, pool: str) -> Iterator[View]:
    """Give the module's pool as Ceph's own tools see it."""
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(pool) as opened:
        yield View(opened)
