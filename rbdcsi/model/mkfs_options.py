"""The options of mkfs that a StorageClass may have: an allow-list for each filesystem.

mkfs runs as root on the host. So no list has an option that names a file, a directory or a second
device, that overrides a safety check, or that leaves the device without a filesystem (mke2fs(8),
mkfs.xfs(8), mkfs.btrfs(8), as of Debian 12 and 13).
"""

import shlex
from collections.abc import Iterable, Iterator

from rbdcsi import errors
from rbdcsi.model import option_values
from rbdcsi.model.option_values import (
    FLAG,
    NOTHING,
    OPTIONAL_FLAG,
    Allowed,
    Choice,
    Either,
    Items,
    Number,
    Text,
    excludes,
    flags,
    label,
    mistake_of,
    needs,
    valued,
)

_U32 = 2**32 - 1
_ANY = 10**19


def _features(names: str) -> Items:
    return Items(flags(" ".join(f"{name} ^{name}" for name in names.split())))


def _size(least: int, most: int, units: str = "bskmgtpe") -> Number:
    return Number(least, most, units, power_of_2=True)


EXT4: Allowed = {
    **flags("-D -j -q -v"),
    "-b": _size(1 << 10, 1 << 16, "kms"),
    "-C": Number((1 << 10) + 1, 1 << 29, "kmgs"),
    "-e": Choice("continue", "remount-ro", "panic"),
    "-E": Items(
        {
            **flags("discard nodiscard"),
            **valued(OPTIONAL_FLAG, "lazy_itable_init lazy_journal_init"),
            **valued(OPTIONAL_FLAG, "packed_meta_blocks assume_storage_prezeroed"),
            **valued(Number(0, _ANY), "stride stripe_width stripe-width mmp_update_interval"),
            "resize": Number(1, _ANY, "kmgts"),
            "orphan_file_size": Number(1, _ANY, "kmgts"),
            "num_backup_sb": Number(0, 2),
            "desc_size": Choice("64"),
            "encoding": Choice("utf8", "utf8-12.1"),
            "encoding_flags": Choice("strict", "nostrict"),
            "root_owner": Either(NOTHING, Text("[0-9]+:[0-9]+", "UID:GID")),
            "quotatype": Text(
                "(?:usr|grp|prj)quota(?::(?:usr|grp|prj)quota)*",
                "usrquota, grpquota or prjquota, several with : between them",
            ),
        }
    ),
    "-g": Number(256, 8 << 16, multiple_of=8),
    "-G": _size(1, 1 << 31, ""),
    "-i": Number(1 << 10, 1 << 26, "kms"),
    "-I": _size(128, 1 << 16, ""),
    "-J": Items(
        {
            # in MiB: a journal has at most 10240000 blocks, see figure_journal_size
            "size": Number(0, 10240000 >> 4),
            "fast_commit_size": Number(0, _ANY),
            "location": Number(0, _ANY, "kmgts"),
        }
    ),
    "-L": label(16),
    "-m": Text(r"0*(?:[0-4]?[0-9](?:\.[0-9]+)?|50(?:\.0+)?)", "a percentage from 0 to 50"),
    "-N": Number(0, _U32),
    "-O": _features(
        "64bit bigalloc casefold dir_index dir_nlink ea_inode encrypt ext_attr extent extents "
        "extra_isize fast_commit filetype flex_bg has_journal huge_file inline_data large_dir "
        "large_file meta_bg metadata_csum metadata_csum_seed mmp orphan_file project quota "
        "resize_inode sparse_super sparse_super2 stable_inodes uninit_bg verity"
    ),
    "-T": Items(flags("default small big huge news largefile largefile4")),
}
EXT4_RULES = (
    needs("-C .*", "-O bigalloc", "-O bigalloc"),
    needs(r"-O \^extents?", r"-O \^64bit", "-O ^64bit"),
    excludes(r"-O \^extents?", "-O (?:bigalloc|verity)", "-O bigalloc or verity"),
    needs("-O meta_bg", r"-O \^resize_inode", "-O ^resize_inode"),
    needs(r"-O \^sparse_super", r"-O \^resize_inode", "-O ^resize_inode"),
    excludes("-O metadata_csum_seed", r"-O \^metadata_csum", "-O ^metadata_csum"),
    excludes("-O orphan_file", r"-O \^has_journal", "-O ^has_journal"),
    excludes("-E desc_size=.*", r"-O \^64bit", "-O ^64bit"),
    needs("-E encoding_flags=.*", "-E encoding=.*", "-E encoding=utf8"),
)

XFS: Allowed = {
    **flags("-K -q"),
    "-b": Items({"size": _size(512, 1 << 16, "kmgtpe")}),
    "-d": Items(
        {
            **flags("noalign"),
            "agcount": Number(2, _U32),
            "agsize": Number(1 << 24, 1 << 40, "bskmgtpe"),
            **valued(Number(0, _U32), "sunit swidth sw cowextsize extszinherit projinherit"),
            "su": Number(0, _U32, "bskmgtpe", multiple_of=512),
            "sectsize": _size(512, 1 << 15, "kmgtpe"),
            "daxinherit": FLAG,
        }
    ),
    "-i": Items(
        {
            "size": _size(256, 1 << 11, ""),
            "perblock": _size(2, 256, ""),
            "maxpct": Number(0, 100),
            "attr": Number(0, 2),
            **valued(OPTIONAL_FLAG, "align projid32bit sparse nrext64"),
        }
    ),
    "-l": Items(
        {
            "internal": Choice("", "1"),
            "size": Number(2 << 20, (2 << 30) - (10 << 20), "bskmgtpe"),
            "sunit": Number(1, 512),
            "su": Number(512, 1 << 18, "bskmgtpe", multiple_of=512),
            "sectsize": _size(512, 1 << 15, "kmgtpe"),
            "agnum": Number(0, _U32),
            "version": Choice("1", "2"),
            "lazy-count": FLAG,
        }
    ),
    "-L": label(12),
    "-m": Items(valued(OPTIONAL_FLAG, "crc finobt reflink rmapbt bigtime inobtcount")),
    "-n": Items({"size": _size(1 << 12, 1 << 16), "version": Choice("2", "ci"), "ftype": FLAG}),
    "-s": Items({"size": _size(512, 1 << 15, "kmgtpe")}),
}
_OF_V5 = (
    "-m (?:finobt|reflink|rmapbt|bigtime|inobtcount)(?:=1)?",
    "-i (?:sparse|nrext64)(?:=1)?",
)
_OF_V4 = (
    "-l version=1|-l lazy-count=0|-n ftype=0|-i attr=[01]|-i align=0|-i projid32bit=0",
    "-i size=256|-b size=512",
)
XFS_RULES = (
    needs("-d su=[1-9].*", "-d sw=.*", "-d sw"),
    needs("-d sw=[1-9].*", "-d su=.*", "-d su"),
    needs("-d sunit=.*", "-d swidth=.*", "-d swidth"),
    needs("-d swidth=.*", "-d sunit=.*", "-d sunit"),
    excludes("-d noalign", "-d (?:su|sw|sunit|swidth)=.*", "-d su, sw, sunit or swidth"),
    excludes("-d (?:su|sw)=.*", "-d (?:sunit|swidth)=.*", "-d sunit or swidth"),
    *(needs(setting, "-m crc=0", "-m crc=0") for setting in _OF_V4),
    *(excludes(setting, "-m crc=0", "-m crc=0") for setting in _OF_V5),
    excludes("-m inobtcount=1", "-m finobt=0", "-m finobt=0"),
)

_BTRFS_FEATURES = _features(
    "mixed-bg extref skinny-metadata no-holes free-space-tree quota block-group-tree"
)
BTRFS: Allowed = {
    **flags("-K --nodiscard -M --mixed -q --quiet -v --verbose"),
    **valued(Choice("single", "dup"), "-d --data -m --metadata"),  # others need several devices
    **valued(Choice("crc32c", "xxhash", "sha256", "blake2"), "--csum --checksum"),
    **valued(Either(Choice("0"), _size(1 << 12, 1 << 16, "bkmgtpe")), "-n --nodesize"),
    **valued(_size(1 << 12, 1 << 16, "bkmgtpe"), "-s --sectorsize"),
    **valued(label(255), "-L --label"),
    **valued(_BTRFS_FEATURES, "-O --features"),
    **valued(_features("quota free-space-tree"), "-R --runtime-features"),
}
_MIXED = "-M|--mixed"
_FEATURE = "(?:-O|--features) "
BTRFS_RULES = (
    needs(
        f"{_FEATURE}mixed-bg",
        f"{_MIXED}|(?:-n|--nodesize) .*",
        "-M, or -n with the size of a sector",
    ),
    excludes(
        f"{_FEATURE}block-group-tree",
        r"(?:-[OR]|--features|--runtime-features) \^(?:no-holes|free-space-tree)",
        "^no-holes or ^free-space-tree",
    ),
)


def parse(text: str, fs_type: str, allowed: Allowed) -> tuple[str, ...]:
    """Return the arguments of mkfs, split as a shell splits them; each value is checked by itself.

    Args:
        text: the StorageClass's mkfsOptions.
        fs_type: the filesystem's name, for the message.
        allowed: the options of this filesystem.

    Raises:
        InvalidRequest: an option or a value is not allowed for this filesystem.
    """
    words = _words(text)
    for option, value in _options(words, fs_type, allowed):
        if mistake := mistake_of(allowed[option], value):
            raise errors.InvalidRequest(
                f"mkfsOptions: {option} {value!r} is not allowed for {fs_type}: {mistake}"
            )
    return words


def require_together(
    text: str, fs_type: str, allowed: Allowed, rules: Iterable[option_values.Rule]
) -> None:
    """Check the rules between options that `parse` has accepted.

    Args:
        text: the StorageClass's mkfsOptions.
        fs_type: the filesystem's name, for the message.
        allowed: the options of this filesystem.
        rules: of this filesystem.

    Raises:
        InvalidRequest: mkfs takes each of the options, but not all of them together.
    """
    breach = option_values.broken(rules, settings(_words(text), fs_type, allowed))
    if breach:
        raise errors.InvalidRequest(f"mkfsOptions for {fs_type}: {breach}")


def settings(words: Iterable[str], fs_type: str, allowed: Allowed) -> list[str]:
    """Return each option with its value, each item of a list by itself: `-d su=64k`, `-d sw=4`.

    Args:
        words: as `parse` returns them.
        fs_type: the filesystem's name, for the message.
        allowed: the options of this filesystem.
    """
    return [
        f"{option} {item}".rstrip()
        for option, value in _options(words, fs_type, allowed)
        for item in _items(allowed[option], value or "")
    ]


def _items(values: option_values.Values | None, value: str) -> list[str]:
    return value.split(",") if isinstance(values, Items) else [value]


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise errors.InvalidRequest(
            f"mkfsOptions: {text!r} has an open quotation: {error}"
        ) from error


def _options(
    words: Iterable[str], fs_type: str, allowed: Allowed
) -> Iterator[tuple[str, str | None]]:
    """Yield each option with its value, which may be the next word, None if it has none."""
    remaining = iter(words)
    for word in remaining:
        option, value = _split(word)
        if option not in allowed or (allowed[option] is None and value is not None):
            raise errors.InvalidRequest(
                f"mkfsOptions: {word!r} is not allowed for {fs_type}; allowed are "
                f"{', '.join(sorted(allowed))}, flags each by itself"
            )
        takes_next = allowed[option] is not None and value is None
        yield option, next(remaining, "") if takes_next else value


def _split(word: str) -> tuple[str, str | None]:
    """Split `-m0` and `--csum=sha256` into option and value, None if the word has no value."""
    if word.startswith("--"):
        option, equals, value = word.partition("=")
        return option, value if equals else None
    return word[:2], word[2:] or None
