"""Options of mkfs: what people write is accepted, nothing reaches beyond the device."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.model import mkfs_options
from rbdcsi.model.filesystems import TABLE


def parse(text: str, fs_type: str) -> tuple[str, ...]:
    return mkfs_options.parse(text, fs_type, TABLE[fs_type].mkfs_allowed)


ACCEPTED = [
    ("ext4", ""),
    ("ext4", "-m0 -Ediscard"),
    ("ext4", "-m0 -Enodiscard,lazy_itable_init=1,lazy_journal_init=1"),
    ("ext4", "-E nodiscard,lazy_itable_init=1"),
    ("ext4", "-m 0 -E 'nodiscard'"),
    ("ext4", "-b 4096"),
    ("ext4", "-L labelled -I 512"),
    ("ext4", "-O ^metadata_csum,64bit -J size=128 -i 16384 -T largefile"),
    ("ext4", "-E stride=16,stripe_width=64 -N 1000000 -m 0.5"),
    ("xfs", "-K"),
    ("xfs", "-i size=512"),
    ("xfs", "-m reflink=1"),
    ("xfs", "-b size=4096 -m crc=1,finobt=1,bigtime=1 -n ftype=1 -s size=4k -q"),
    ("xfs", "-d agcount=8,su=64k,sw=4 -l internal,size=64m,su=256k -isize=1024,sparse=1"),
    ("btrfs", "--nodiscard"),
    ("btrfs", "-K -m dup -d single -n 16k -O ^no-holes,quota --csum=xxhash -L data"),
    ("btrfs", "--metadata single --features extref"),
]

REFUSED = [
    ("ext4", "-F"), ("ext4", "-FF"), ("ext4", "-d /proc/1/root/etc"), ("ext4", "-d/etc"),
    ("ext4", "/dev/sdb"), ("ext4", "sdb"), ("ext4", "-t ext3"), ("ext4", "-l /etc/passwd"),
    ("ext4", "-c"), ("ext4", "-J device=/dev/sdb"), ("ext4", "-J size=1M,device=UUID=x"),
    ("ext4", "-E offset=1048576"), ("ext4", "-O journal_dev"), ("ext4", "-z /root/undo"),
    ("ext4", "-M /etc"), ("ext4", "-n"), ("ext4", "-S"), ("ext4", "-V"), ("ext4", "-r 0"),
    ("ext4", "-U clear"), ("ext4", "-qF"), ("ext4", "-m"), ("ext4", "-b -1024"), ("ext4", "--"),
    ("ext4", "-"), ("ext4", "-L 'a b'"), ("ext4", "-L a/b"), ("ext4", "-E"), ("ext4", "-m '0'x"),
    ("ext4", "-b 4096\n-F"), ("ext4", "-b '4096\n'"), ("ext4", "-m ٣"),
    ("xfs", "-f"), ("xfs", "-Kf"), ("xfs", "-l logdev=/dev/sdb"), ("xfs", "-l size=1m,logdev=sdb"),
    ("xfs", "-l internal=0"), ("xfs", "-d file=1"), ("xfs", "-d name=/dev/sdb"), ("xfs", "-d file"),
    ("xfs", "-r rtdev=/dev/sdb"), ("xfs", "-r size=1m"), ("xfs", "-p /etc/proto"), ("xfs", "-N"),
    ("xfs", "-c options=/etc/x"), ("xfs", "-b 4096"), ("xfs", "-m uuid=1"), ("xfs", "-K x"),
    ("btrfs", "-f"), ("btrfs", "--force"), ("btrfs", "--forc"), ("btrfs", "-r /etc"),
    ("btrfs", "--rootdir /etc"), ("btrfs", "--rootdir=/etc"), ("btrfs", "--shrink"),
    ("btrfs", "-b 1"), ("btrfs", "-d raid1"), ("btrfs", "--quiet=1"), ("btrfs", "-O list-all"),
    ("btrfs", "-U x"),
]  # fmt: skip

WORDS = st.sampled_from([
    "-m", "0", "-E", "discard", "-F", "-K", "-Kf", "-d", "/etc", "/dev/sdb", "sdb", "-l", "-L",
    "logdev=/dev/sdb", "-J", "device=sdb", "file=/x", "size=1m", "-r", "--rootdir=/", "--csum",
]) | st.text(alphabet="-/abdefmrsEFKLOm019=,^ '\n", max_size=12)  # fmt: skip


@pytest.mark.parametrize(("fs_type", "text"), ACCEPTED)
def test_common_settings_are_accepted(fs_type: str, text: str) -> None:
    assert " ".join(parse(text, fs_type)) == text.replace("'", "")


@pytest.mark.parametrize(("fs_type", "text"), REFUSED)
def test_whatever_reaches_beyond_the_device_or_forces_is_refused(fs_type: str, text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=rf"^mkfsOptions: .* not allowed for {fs_type}"):
        parse(text, fs_type)


@pytest.mark.parametrize(
    ("fs_type", "text", "words"),
    [
        ("ext4", "-i 10", "-i '10' is not allowed for ext4: the value must be a number from 1024 "),
        ("ext4", "-G 3", "-G '3' is not allowed for ext4: the value must be a power of two from 1"),
        ("ext4", "-m 60", "-m '60' is not allowed for ext4: the value must be a percentage from 0"),
        ("ext4", "-m", "-m '' is not allowed for ext4: no value follows; the value must be a perc"),
        ("ext4", "-J size=64M", "size: the value must be a number from 0 to 640000"),
        ("ext4", "-E discard=1", "discard: it takes no value"),
        ("ext4", "-O no_such", "'no_such' is none of 64bit, ^64bit, bigalloc"),
        ("xfs", "-l size=64m,version=3", "version: the value must be 1 or 2"),
        (
            "xfs",
            "-b size=3000",
            "size: the value must be a power of two from 512 to 65536, or with",
        ),
        ("xfs", "-m crc=2", "crc: the value must be nothing, 0 or 1"),
        ("btrfs", "-n 12k", "-n '12k' is not allowed for btrfs: the value must be 0 or a power of"),
    ],
)
def test_a_wrong_value_is_refused_with_those_that_are_allowed(
    fs_type: str, text: str, words: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        parse(text, fs_type)
    assert words in str(refused.value)


def require_together(text: str, fs_type: str) -> None:
    filesystem = TABLE[fs_type]
    mkfs_options.require_together(text, fs_type, filesystem.mkfs_allowed, filesystem.mkfs_rules)


@pytest.mark.parametrize(
    ("fs_type", "text", "words"),
    [
        ("ext4", "-C 16k", "'-C 16k' needs -O bigalloc; add it, or leave '-C 16k' out"),
        ("ext4", "-O 64bit,^extents", "'-O ^extents' needs -O ^64bit"),
        ("ext4", "-O ^has_journal -O orphan_file", "does not go with -O ^has_journal"),
        ("xfs", "-d su=64k", "'-d su=64k' needs -d sw; add it"),
        ("xfs", "-d sunit=128", "'-d sunit=128' needs -d swidth"),
        ("xfs", "-l version=1", "'-l version=1' needs -m crc=0"),
        ("xfs", "-n ftype=0", "'-n ftype=0' needs -m crc=0"),
        ("xfs", "-m crc=0,reflink", "'-m reflink' does not go with -m crc=0"),
        ("btrfs", "-O mixed-bg", "'-O mixed-bg' needs -M"),
    ],
)
def test_options_that_mkfs_does_not_take_together_are_refused(
    fs_type: str, text: str, words: str
) -> None:
    parse(text, fs_type)
    with pytest.raises(errors.InvalidRequest) as refused:
        require_together(text, fs_type)
    assert words in str(refused.value)


@pytest.mark.parametrize(("fs_type", "text"), ACCEPTED)
def test_common_settings_go_together(fs_type: str, text: str) -> None:
    require_together(text, fs_type)


def test_an_open_quotation_is_refused() -> None:
    with pytest.raises(errors.InvalidRequest, match="open quotation"):
        parse("-L 'x", "ext4")


@given(st.sampled_from(list(TABLE)), st.lists(WORDS).map(" ".join))
def test_nothing_accepted_has_a_path_or_names_a_device(fs_type: str, text: str) -> None:
    try:
        arguments = parse(text, fs_type)
    except errors.InvalidRequest:
        return
    allowed = TABLE[fs_type].mkfs_allowed
    previous = ""
    for argument in arguments:
        assert "/" not in argument
        assert not any(name in argument for name in ("dev=", "device=", "file", "rootdir"))
        is_option = argument.startswith("-")
        assert is_option or allowed[previous] is not None  # else it would be taken for a device
        previous = argument


def test_every_filesystem_has_a_list_which_takes_the_defaults() -> None:
    for fs_type, filesystem in TABLE.items():
        defaults = filesystem.mkfs_defaults
        require_together(" ".join(defaults), fs_type)
        assert parse(" ".join(defaults), fs_type) == defaults
