"""Many volumes at once."""

from e2e.kubernetes import chart, fifty
from e2e.kubernetes.client import Kubernetes
from tests.kubernetes.conftest import Rbd


def test_fifty_pods_get_their_volumes_at_once(kubernetes: Kubernetes, rbd: Rbd) -> None:
    before = rbd("ls", chart.POOL)
    figures = fifty.measure(kubernetes)
    print(figures)
    for step, calls in figures.calls.items():
        assert len(calls) >= fifty.COUNT, f"{step} succeeded {len(calls)} times"
    assert rbd("ls", chart.POOL) == before
