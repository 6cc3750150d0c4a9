"""Kubernetes' own external-storage suite: every selected spec passes."""

from pathlib import Path

import pytest

from e2e import ginkgo
from e2e.kubernetes import lab, suite
from e2e.kubernetes.client import Kubernetes


@pytest.mark.timeout(2700)
@pytest.mark.parametrize("part", suite.CHOSEN)
def test_the_chosen_specs_pass(kubernetes: Kubernetes, tmp_path: Path, part: str) -> None:
    _passes(suite.run(kubernetes, tmp_path, suite.CHOSEN[part], timeout=2400))


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_every_spec_that_can_be_had_passes(kubernetes: Kubernetes, tmp_path: Path) -> None:
    _passes(suite.run(kubernetes, tmp_path, suite.EVERYTHING_ELSE, timeout=3 * 3600))


@pytest.mark.long
@pytest.mark.timeout(2 * 3600)
def test_the_specs_that_stop_kubelets_pass(own_lab: lab.Lab, tmp_path: Path) -> None:
    key = own_lab.plane.login_key
    run = suite.run(
        own_lab.kubernetes, tmp_path, suite.DISRUPTIVE, processes=1, login_key=key, timeout=5400
    )
    _passes(run)


def _passes(result: ginkgo.Result) -> None:
    assert result.failures == ()
    assert result.ran > 0
