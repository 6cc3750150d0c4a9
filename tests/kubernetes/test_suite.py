"""Kubernetes' own external-storage suite: every selected spec passes."""

from pathlib import Path

import pytest

from e2e.kubernetes import suite
from e2e.kubernetes.client import Kubernetes


@pytest.mark.timeout(2400)
def test_the_chosen_specs_pass(kubernetes: Kubernetes, tmp_path: Path) -> None:
    result = suite.run(kubernetes, tmp_path, suite.CHOSEN)
    assert result.failures == ()
    assert result.ran > 0
