from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host.mappers import choice
from rbdcsi.host.mappers.krbd import Krbd


class Unsupporting(Krbd):
    """A mapper that gives a reason why it cannot."""

    def __init__(self, name: str, reason: str | None) -> None:
        super().__init__()
        self.name, self.reason = name, reason

    def unsupported(self) -> str | None:
        return self.reason


KRBD = Unsupporting("krbd", "no module rbd")
NBD = Unsupporting("nbd", None)
FUSE = Unsupporting("fuse", None)


def test_first_supported_one_is_chosen() -> None:
    assert choice.choose((KRBD, NBD, FUSE)) is NBD


def test_wanted_order_decides() -> None:
    assert choice.choose((KRBD, NBD, FUSE), ("krbd", "fuse", "nbd")) is FUSE


def test_none_supported_is_refused_with_the_reason_of_each() -> None:
    nbd = Unsupporting("nbd", "no rbd-nbd")

    with pytest.raises(errors.Refused, match=r"krbd: no module rbd\. nbd: no rbd-nbd"):
        choice.choose((KRBD, nbd, FUSE), ("krbd", "nbd"))


def test_unknown_name_is_invalid() -> None:
    with pytest.raises(errors.InvalidRequest, match="'iscsi'"):
        choice.choose((KRBD,), ("iscsi",))


def test_every_mapper_is_offered_in_the_order_of_preference(tmp_path: Path) -> None:
    assert tuple(mapper.name for mapper in choice.every(tmp_path)) == choice.NAMES
