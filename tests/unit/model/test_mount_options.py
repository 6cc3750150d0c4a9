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
        ("noatime=1", "it takes no value"),
        ("noatime=", "it takes no value"),
        ("barrier=", "no value follows; leave the = out"),
        ("commit=soon", "the value must be a number from 0 to "),
        ("commit", "the value must be a number from 0 to "),
        ("commit=", "no value follows; the value must be a number from 0 to "),
        ("context=a b", "the value must be a label of SELinux"),
        ("journal_ioprio=8", "the value must be a number from 0 to 7; correct it in mountOptions"),
        ("inode_readahead_blks=3", "the value must be 0 or a power of two from 1 to 1073741824"),
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


@pytest.mark.parametrize(
    ("fs_type", "options", "words"),
    [
        ("xfs", ["sunit=8", "noatime"], "'sunit=8' needs swidth; add it, or leave 'sunit=8' out"),
        ("xfs", ["swidth=8"], "'swidth=8' needs sunit"),
        ("xfs", ["noalign,sunit=8,swidth=16"], "'noalign' does not go with sunit or swidth"),
        ("ext4", ["journal_async_commit"], "'journal_async_commit' needs data=writeback"),
        ("ext4", ["delalloc", "data=journal"], "'delalloc' does not go with data=journal"),
    ],
)
def test_options_that_the_kernel_does_not_take_together_are_refused(
    fs_type: str, options: list[str], words: str
) -> None:
    require(options, fs_type)  # so that a volume which has them is not refused
    with pytest.raises(errors.InvalidRequest) as refused:
        mount_options.require_together(options, fs_type, TABLE[fs_type].mount_rules)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("fs_type", "options"),
    [
        ("xfs", ["sunit=8,swidth=16"]),
        ("xfs", ["sunit=0", "noalign"]),
        ("ext4", ["data=writeback,journal_async_commit"]),
        ("ext4", ["data=journal,nodelalloc"]),
        ("btrfs", ["compress"]),
    ],
)
def test_options_that_go_together_are_allowed(fs_type: str, options: list[str]) -> None:
    mount_options.require_together(options, fs_type, TABLE[fs_type].mount_rules)
