"""Whatever name a caller sends gives a volume of its own, or a clear refusal."""

import unicodedata

import pytest

from e2e import volume
from e2e.driver import Driver
from e2e.volume import MIB
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

NAMES = {
    "plain": "pvc-0a1b",
    "longest": "x" * 128,
    "longer": "x" * 129,
    "much-longer": "x" * 4000,
    "spec-signs": "pool/image@snapshot",
    "path": "../../etc",
    "option": "--help",
    "emoji": "💾" * 32,
    "control": "a\nb\tc\x00d",
    "blank": " ",
    "arabic": "قرص",
    "looks-hashed": "sha256." + "0" * 64,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_any_name_gives_one_image_and_is_kept(controller: Driver, view: View, name: str) -> None:
    made = volume.create(controller, name, size=16 * MIB)
    assert volume.create(controller, name, size=16 * MIB) == made
    (image,) = view.images()
    assert image.isascii()
    assert not set(image) & set("/@ \n\0")
    volume.delete(controller, made)
    assert view.images() == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")),
        ("a", "A"),
        ("x" * 128, "x" * 129),
        ("a/b", "a@b"),
        ("name", "name "),
    ],
    ids=["normal-form", "case", "length", "signs", "blank"],
)
def test_names_that_look_alike_are_two_volumes(
    controller: Driver, view: View, one: str, other: str
) -> None:
    both = [volume.create(controller, name, size=16 * MIB) for name in (one, other)]
    assert both[0].id != both[1].id
    assert len(view.images()) == 2
    for made in both:
        volume.delete(controller, made)


def test_no_name_is_refused(controller: Driver) -> None:
    with refused("INVALID_ARGUMENT", "name is missing"):
        volume.create(controller, "")
