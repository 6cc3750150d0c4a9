import pytest

from rbdcsi.model import xfs_features
from rbdcsi.model.xfs_features import Version, switched_off


@pytest.mark.parametrize(
    ("kernel", "mkfs", "options"),
    [
        ((6, 12), (6, 13), ()),
        ((6, 1), (6, 1), ()),
        ((6, 1), (6, 13), ("-i", "exchange=0", "-n", "parent=0")),
        ((5, 15), (6, 1), ("-i", "nrext64=0")),
        ((5, 15), (6, 13), ("-i", "nrext64=0", "-i", "exchange=0", "-n", "parent=0")),
        ((5, 15), (5, 10), ()),
        ((5, 4), (6, 1), ("-m", "bigtime=0", "-m", "inobtcount=0", "-i", "nrext64=0")),
    ],
)
def test_features_that_the_kernel_lacks_are_switched_off_where_mkfs_knows_them(
    kernel: Version, mkfs: Version, options: tuple[str, ...]
) -> None:
    assert switched_off(kernel, mkfs, ("-K",)) == options


@pytest.mark.parametrize("own", ["-inrext64=1", "-i nrext64=1,size=512", "-i nrext64"])
def test_a_feature_that_the_class_names_stays_as_it_has_it(own: str) -> None:
    assert switched_off((5, 15), (6, 1), own.split()) == ()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("mkfs.xfs version 6.1.0", (6, 1)),
        ("5.15.0-91-generic", (5, 15)),
        ("6.18.44-fc", (6, 18)),
        ("6.12", (6, 12)),
    ],
)
def test_versions_are_read(text: str, version: Version) -> None:
    assert xfs_features.version(text) == version


def test_a_text_without_a_version_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no version"):
        xfs_features.version("custom")
