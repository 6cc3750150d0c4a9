"""The remedy for a missing right gives a user no more than the driver needs."""

import pytest

from rbdcsi.ceph.objects import Header
from rbdcsi.model.ids import LocationId
from rbdcsi.operator.doctor import RULES
from rbdcsi.operator.doctor.findings import examine
from rbdcsi.operator.facts import LocationFacts
from tests.unit.operator.test_rules import changed, cluster


def _at(namespace: str, pool: str = "p", pool_id: int = 1) -> LocationFacts:
    return LocationFacts(LocationId("c", pool_id, namespace), pool, ("csi-",))


@pytest.mark.parametrize(
    ("locations", "osd"),
    [
        ((), "profile rbd pool=p namespace=mine"),
        ((_at("mine"),), "profile rbd pool=p namespace=mine"),
        ((_at("mine"), _at("theirs")), "profile rbd pool=p"),
        ((_at("mine"), _at("")), "profile rbd pool=p"),
        (
            (_at("mine"), _at("", "q", 3)),
            "profile rbd pool=p namespace=mine, profile rbd pool=q",
        ),
    ],
)
def test_a_user_of_one_namespace_gets_rights_in_that_one_only(
    locations: tuple[LocationFacts, ...], osd: str
) -> None:
    lacks = frozenset({"fence"})
    facts = cluster(home_namespace="mine", locations=locations, lacks=lacks)
    commands = {each.commands for each in examine([facts], RULES) if each.kind == "missing-right"}
    mon = """mon 'profile rbd, allow command "osd blocklist" with blocklistop=rm'"""
    assert commands == {(f"ceph auth caps client.rbdcsi {mon} osd '{osd}'",)}


def test_rights_for_data_are_of_the_namespace_of_the_volumes() -> None:
    data = LocationFacts(LocationId("c", 2, ""), "ec")
    header = Header(1, 1, 1, None, None, data_pool_id=2, metadata={})
    volume = changed(location=_at("mine"), header=header)
    facts = cluster(
        volume,
        home_namespace="mine",
        locations=(_at("mine"), data),
        lacks=frozenset({"capacity"}),
    )
    (finding,) = examine([facts], RULES)
    assert finding.commands[0].endswith(
        "osd 'profile rbd pool=p namespace=mine, profile rbd pool=ec namespace=mine'"
    )
