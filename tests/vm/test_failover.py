"""A machine fails in every way; its volumes go on at another one, with all that was written."""

from collections.abc import Callable

import pytest
import rados

from e2e.clusters import Cluster
from e2e.failover import machines, report, story
from e2e.failover.node import Fault
from tests.vm.lab import MAPPERS, Lab

SMOKE = ("krbd", Fault.FROZEN)


def _cases() -> list[object]:
    cases = [(mapper, fault) for mapper in MAPPERS for fault in Fault]
    return [
        pytest.param(
            *case,
            marks=[pytest.mark.smoke] if case == SMOKE else [],
            id=f"{case[0]}-{case[1].value}",
        )
        for case in cases
    ]


@pytest.mark.parametrize(("mapper", "fault"), _cases())
def test_all_durable_records_are_there_and_late_writes_are_refused(
    lab: Lab,
    cluster: Cluster,
    admin: rados.Rados,
    mapper: str,
    fault: Fault,
    figures: Callable[[str], None],
) -> None:
    scene = machines.scene(cluster, lab.controller, lab.nodes, lab.ioctx, admin, mapper)
    for outcome in story.tell(scene, fault):
        figures(report.line(mapper, outcome))
