"""Which of the tests in virtual machines and on Kubernetes one run of `.ci/run` has time for.

Tests marked `smoke` are in each run. Those marked `long` are left to `make e2e-long`. The others
are cut into shards of at most twelve minutes, of which a run has one. A pytest plugin:
`pytest -p tests.shards --shard=NAME -m vm tests/vm`; without a name only the smoke tests are left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Shard:
    """Tests that a run has beside the smoke tests.

    Attributes:
        mark: "vm" or "kubernetes".
        beginnings: of the node ids of its tests.
    """

    mark: str
    beginnings: Sequence[str]

    def has(self, node_id: str) -> bool:
        """Tell whether a test is in it, unless the test is marked `smoke` or `long`."""
        return node_id.startswith(tuple(self.beginnings))


FAILOVER = (
    "tests/vm/test_failover.py::test_all_durable_records_are_there_and_late_writes_are_refused"
)
SUITE = "tests/kubernetes/test_suite.py::test_the_chosen_specs_pass"
SHARDS: Mapping[str, Shard] = {
    "life": Shard("vm", ["tests/vm/test_life.py"]),
    "faults": Shard(
        "vm", [f"tests/vm/test_{name}.py" for name in ("faults", "krbd", "nbd", "selinux")]
    ),
    "failover-krbd": Shard("vm", [f"{FAILOVER}[krbd"]),
    "failover-nbd": Shard("vm", [f"{FAILOVER}[nbd"]),
    "machine": Shard("vm", [f"tests/vm/test_{name}.py" for name in ("machine", "without_cephx")]),
    "growth-machines": Shard("vm", ["tests/vm/test_expand.py"]),
    "clones": Shard(
        "vm", [f"tests/vm/test_{name}.py" for name in ("clones", "groups", "snapshots")]
    ),
    "volumes": Shard("kubernetes", ["tests/kubernetes/test_volumes.py"]),
    "claims": Shard("kubernetes", ["tests/kubernetes/test_claims.py"]),
    "growth": Shard("kubernetes", ["tests/kubernetes/test_expand.py"]),
    "snapshots": Shard(
        "kubernetes", ["tests/kubernetes/test_snapshots.py", "tests/kubernetes/test_groups.py"]
    ),
    "restarts": Shard("kubernetes", ["tests/kubernetes/test_restarts.py"]),
    "failover-kubernetes": Shard("kubernetes", ["tests/kubernetes/test_failover.py"]),
    "examples": Shard(
        "kubernetes",
        [
            *(f"tests/kubernetes/test_{name}.py" for name in ("examples", "monitoring", "static")),
            "tests/integration/test_metadata_sidecar.py",
        ],
    ),
    "suite-data": Shard("kubernetes", [f"{SUITE}[data]"]),
    "suite-paths": Shard("kubernetes", [f"{SUITE}[paths]"]),
    "suite-snapshots": Shard("kubernetes", [f"{SUITE}[snapshots]"]),
    "suite-growth": Shard("kubernetes", [f"{SUITE}[growth]"]),
    "suite-rest": Shard("kubernetes", [f"{SUITE}[rest]"]),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names a shard."""
    parser.addoption("--shard", choices=["", *SHARDS], default="", help="beside the smoke tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the smoke tests, and those of the shard.

    Raises:
        UsageError: the shard has no test.
    """
    name = config.getoption("shard")
    chosen = [item for item in items if item.get_closest_marker("smoke")]
    if name:
        shard = [item for item in items if SHARDS[name].has(item.nodeid) and _is_for_shards(item)]
        if not shard:
            raise pytest.UsageError(f"shard {name} has no test; see tests/shards.py")
        chosen += shard
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = [item for item in items if item in chosen]


def _is_for_shards(item: pytest.Item) -> bool:
    return not (item.get_closest_marker("smoke") or item.get_closest_marker("long"))
