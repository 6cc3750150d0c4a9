"""Many callers at random, drivers that die at random: no rule is broken, and nothing is left."""

from collections.abc import Callable

import pytest
import rados

from e2e.clusters import Cluster
from e2e.driver import Installation
from e2e.walk.walk import walk

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(900)]

SEED = 20_261_126
SECONDS = 60.0


def test_random_walk(
    cluster: Cluster,
    installation: Installation,
    pool: str,
    admin: rados.Rados,
    figures: Callable[[str], None],
) -> None:
    told = walk(cluster, installation, pool, admin, seed=SEED, seconds=SECONDS)
    figures(f"random walk: {sum(told.outcomes.values())} calls, {told.deaths} deaths")
    assert not told.troubles, f"seed {SEED}:\n" + "\n".join(told.troubles)
