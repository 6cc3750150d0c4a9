import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.model import mount_options
from rbdcsi.model.filesystems import TABLE


def require(options: list[str], fs_type: str) -> None:
    mount_options.require_allowed(options, fs_type, TABLE[fs_type].mount_allowed)


@pytest.mark.parametrize(
    ("fs_type", "options"),
    [
        ("ext4", []),
        ("ext4", ["discard"]),
        ("ext4", ["noatime,nodiratime", "commit=60", "errors=remount-ro", "data=journal"]),
        ("ext4", ["ro", "_netdev", "nofail", "barrier", "barrier=1", "init_itable"]),
        ("ext4", ['context="system_u:object_r:container_file_t:s0:c1,c2"', "noatime"]),
        ("xfs", ["nouuid", "discard", "logbsize=256k", "allocsize=64m", "prjquota"]),
        ("btrfs", ["compress=zstd:3", "compress-force", "discard=async", "ssd", "space_cache=v2"]),
    ],
)
def test_options_of_the_kinds_are_allowed(fs_type: str, options: list[str]) -> None:
    require(options, fs_type)


@pytest.mark.parametrize(
    ("fs_type", "option"),
    [
        *(
            (fs_type, option)
            for fs_type in TABLE
            for option in ("loop=/dev/loop0", "loop", "bind", "rbind", "remount", "move", "--help")
        ),
        *((fs_type, "offset=4096") for fs_type in TABLE),
        *((fs_type, "x-mount.mkdir=0777") for fs_type in TABLE),
        ("ext4", "journal_path=/dev/sda"),
        ("ext4", "noload"),
        ("ext4", "sb=1"),
        ("ext4", "barrier=0"),
        ("ext4", "nouuid"),
        ("xfs", "logdev=/dev/sda"),
        ("xfs", "norecovery"),
        ("btrfs", "subvol=../.."),
        ("btrfs", "device=/dev/sda"),
        ("btrfs", "degraded"),
    ],
)
def test_options_that_reach_beyond_the_device_are_refused_by_name(
    fs_type: str, option: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        require(["noatime", option], fs_type)
    assert f"mount option {option!r} is not allowed for {fs_type}" in str(refused.value)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("noatme", "did you mean noatime?"),
        ("noatime=1", "the value of noatime is none"),
        ("noatime=", "the value of noatime is none"),
        ("commit=soon", "the value of commit must match"),
        ("commit", "the value of commit must match"),
        ("context=a b", "the value of context must match"),
    ],
)
def test_a_wrong_value_or_name_is_refused_with_what_is_expected(option: str, words: str) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        require([option], "ext4")
    assert words in str(refused.value)


def test_options_hide_in_no_list() -> None:
    with pytest.raises(errors.InvalidRequest, match="'bind' is not allowed"):
        require(["noatime,bind"], "ext4")
    with pytest.raises(errors.InvalidRequest, match="is not allowed"):
        require(['context="a",bind'], "ext4")


@given(st.sampled_from(sorted(TABLE)), st.lists(st.text()))
def test_any_text_is_refused_or_names_no_file(fs_type: str, options: list[str]) -> None:
    try:
        require(options, fs_type)
    except errors.InvalidRequest:
        return
    assert not any(sign in option for option in options for sign in "/ \n")
