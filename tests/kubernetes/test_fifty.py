"""Many volumes at once."""

import pytest

from e2e.kubernetes import fifty
from e2e.kubernetes.client import Kubernetes


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_fifty_pods_get_their_volumes_at_once(kubernetes: Kubernetes) -> None:
    figures = fifty.measure(kubernetes)
    print(f"{figures}\ndrawn in {fifty.draw(figures)}")
    for step, calls in figures.calls.items():
        assert len(calls) >= fifty.COUNT, f"{step} succeeded {len(calls)} times"
