"""The options of mkfs that a StorageClass may have: an allow-list for each filesystem.

mkfs runs as root on the host. So no list has an option that names a file, a directory or a second
device, that overrides a safety check, or that leaves the device without a filesystem (mke2fs(8),
mkfs.xfs(8), mkfs.btrfs(8), as of Debian 12).
"""

import re
import shlex
from collections.abc import Iterator, Mapping

from rbdcsi import errors

_NUMBER = "[0-9]+"
_SIZE = "[0-9]+[bskmgtpKMGTP]?"
_FLAG = "[01]"


def _one(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


def _list(*items: str) -> re.Pattern[str]:
    """Return the pattern of a comma-separated list of these items."""
    item = "|".join(items)
    return _one(f"(?:{item})(?:,(?:{item}))*")


def _features(names: str) -> re.Pattern[str]:
    return _list(*(rf"\^?{re.escape(name)}" for name in names.split()))


def _named(pattern: str, names: str) -> tuple[str, ...]:
    return tuple(f"{name}={pattern}" for name in names.split())


def _label(longest: int) -> re.Pattern[str]:
    return _one(f"[A-Za-z0-9_.][A-Za-z0-9_.-]{{0,{longest - 1}}}")


Allowed = Mapping[str, re.Pattern[str] | None]  # None: the option has no value

EXT4: Allowed = {
    **dict.fromkeys(("-D", "-j", "-q", "-v")),
    "-b": _one(_NUMBER),
    "-C": _one(_SIZE),
    "-e": _one("continue|remount-ro|panic"),
    "-E": _list(
        "discard",
        "nodiscard",
        *(f"{name}(?:={_FLAG})?" for name in ("lazy_itable_init", "lazy_journal_init")),
        *(f"{name}(?:={_FLAG})?" for name in ("packed_meta_blocks", "assume_storage_prezeroed")),
        *_named(_NUMBER, "stride stripe_width stripe-width resize mmp_update_interval"),
        *_named(_SIZE, "orphan_file_size"),
        "num_backup_sb=[012]",
        "desc_size=(?:32|64)",
        "encoding=utf8(?:-[0-9.]+)?",
        "encoding_flags=(?:no)?strict",
        "root_owner(?:=[0-9]+:[0-9]+)?",
        "quotatype=(?:usr|grp|prj)quota(?::(?:usr|grp|prj)quota)*",
    ),
    "-g": _one(_NUMBER),
    "-G": _one(_NUMBER),
    "-i": _one(_SIZE),
    "-I": _one(_NUMBER),
    "-J": _list(*_named(_SIZE, "size fast_commit_size location")),
    "-L": _label(16),
    "-m": _one(r"[0-9]+(?:\.[0-9]+)?"),
    "-N": _one(_SIZE),
    "-O": _features(
        "64bit bigalloc casefold dir_index dir_nlink ea_inode encrypt ext_attr extent extents "
        "extra_isize fast_commit filetype flex_bg has_journal huge_file inline_data large_dir "
        "large_file meta_bg metadata_csum metadata_csum_seed mmp orphan_file project quota "
        "resize_inode sparse_super sparse_super2 stable_inodes uninit_bg verity"
    ),
    "-T": _list("default", "small", "big", "huge", "news", "largefile", "largefile4"),
}

XFS: Allowed = {
    **dict.fromkeys(("-K", "-q")),
    "-b": _list(*_named(_SIZE, "size")),
    "-d": _list(
        "noalign",
        *_named(_SIZE, "agcount agsize sunit swidth su sw sectsize cowextsize extszinherit"),
        *_named(_NUMBER, "projinherit"),
        f"daxinherit={_FLAG}",
    ),
    "-i": _list(
        *_named(_SIZE, "size perblock"),
        "maxpct=[0-9]{1,3}",
        "attr=[012]",
        *(f"{name}(?:={_FLAG})?" for name in ("align", "projid32bit", "sparse", "nrext64")),
    ),
    "-l": _list(
        "internal(?:=1)?",
        *_named(_SIZE, "size sunit su sectsize"),
        *_named(_NUMBER, "agnum"),
        "version=[12]",
        f"lazy-count={_FLAG}",
    ),
    "-L": _label(12),
    "-m": _list(
        *(f"{name}(?:={_FLAG})?" for name in ("crc", "finobt", "reflink", "rmapbt")),
        *(f"{name}(?:={_FLAG})?" for name in ("bigtime", "inobtcount")),
    ),
    "-n": _list(*_named(_SIZE, "size"), "version=(?:2|ci)", f"ftype={_FLAG}"),
    "-s": _list(*_named(_SIZE, "size")),
}

_BTRFS_VALUES: Mapping[tuple[str, ...], re.Pattern[str]] = {
    ("-d", "--data"): _one("single|dup"),  # the other profiles need several devices
    ("-m", "--metadata"): _one("single|dup"),
    ("--csum", "--checksum"): _one("crc32c|xxhash|sha256|blake2"),
    ("-n", "--nodesize"): _one(_SIZE),
    ("-s", "--sectorsize"): _one(_SIZE),
    ("-L", "--label"): _label(255),
    ("-O", "--features"): _features(
        "mixed-bg extref skinny-metadata no-holes free-space-tree quota block-group-tree"
    ),
    ("-R", "--runtime-features"): _features("quota free-space-tree block-group-tree"),
}
BTRFS: Allowed = {
    **dict.fromkeys(("-K", "--nodiscard", "-M", "--mixed", "-q", "--quiet", "-v", "--verbose")),
    **{name: pattern for names, pattern in _BTRFS_VALUES.items() for name in names},
}


def parse(text: str, fs_type: str, allowed: Allowed) -> tuple[str, ...]:
    """Return the arguments of mkfs, split as a shell splits them.

    Args:
        text: the StorageClass's mkfsOptions.
        fs_type: the filesystem's name, for the message.
        allowed: the options of this filesystem.

    Raises:
        InvalidRequest: an option or a value is not allowed for this filesystem.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise errors.InvalidRequest(
            f"mkfsOptions: {text!r} has an open quotation: {error}"
        ) from error
    remaining = iter(words)
    for word in remaining:
        _check(word, remaining, fs_type, allowed)
    return tuple(words)


def _check(word: str, remaining: Iterator[str], fs_type: str, allowed: Allowed) -> None:
    """Check an option with its value, which may be the next word."""
    option, value = _split(word)
    if option not in allowed or (allowed[option] is None and value is not None):
        raise errors.InvalidRequest(
            f"mkfsOptions: {word!r} is not allowed for {fs_type}; allowed are "
            f"{', '.join(sorted(allowed))}, flags each by itself"
        )
    pattern = allowed[option]
    if pattern is None:
        return
    value = next(remaining, "") if value is None else value
    if not pattern.fullmatch(value):
        raise errors.InvalidRequest(
            f"mkfsOptions: {option} {value!r} is not allowed for {fs_type}; a value must match "
            f"{pattern.pattern}"
        )


def _split(word: str) -> tuple[str, str | None]:
    """Split `-m0` and `--csum=sha256` into option and value, None if the word has no value."""
    if word.startswith("--"):
        option, equals, value = word.partition("=")
        return option, value if equals else None
    return word[:2], word[2:] or None
