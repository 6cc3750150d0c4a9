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
# Each counts how often a rule was checked.
CHECKS = ("write acknowledged", "read compared", "rollback compared", "frozen snapshot looked into")


def test_random_walk(
    cluster: Cluster,
    installation: Installation,
    pool: str,
    admin: rados.Rados,
    figures: Callable[[str], None],
) -> None:
    walked = walk(cluster, installation, pool, admin, seed=SEED, seconds=SECONDS)
    checks = ", ".join(f"{walked.outcomes[check]} {check}" for check in CHECKS)
    calls = sum(walked.outcomes.values())
    figures(f"random walk: {calls} calls, {walked.deaths} deaths, {checks}")
    assert not walked.troubles, f"seed {SEED}:\n" + "\n".join(walked.troubles)
    assert walked.deaths
    assert [check for check in CHECKS if not walked.outcomes[check]] == []
