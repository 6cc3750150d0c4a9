"""The mount options that a StorageClass may have: those of all filesystems, and each one's own.

mount(8) runs as root on the host. So no list has an option that names a file, a directory or a
device, that mounts something else than the device (`bind`, `loop`, `subvol`), that changes another
mount (`remount`), or that mounts a filesystem without the repair of its log (`norecovery`). See
mount(8), ext4(5), xfs(5), btrfs(5) and the kernel's Documentation/filesystems.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping

from rbdcsi import errors

Allowed = Mapping[str, re.Pattern[str] | None]  # None: the option has no value

_NUMBER = re.compile("[0-9]{1,10}", re.ASCII)
_SIZE = re.compile("[0-9]{1,10}[kKmMgG]?", re.ASCII)
_FLAG = re.compile("[01]", re.ASCII)


def _flags(names: str) -> Allowed:
    return dict.fromkeys(names.split())


def _valued(pattern: re.Pattern[str], names: str) -> Allowed:
    return dict.fromkeys(names.split(), pattern)


def _one(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


_EMPTY = _one("")  # an option that may stand without a value
# A label with levels such as s0:c1,c2 is in quotes, as the kubelet writes it.
_LABEL = _one(r'"[\w:.,-]+"|[\w:.-]+')

GENERIC: Allowed = {
    **_flags("defaults ro rw sync async dirsync"),
    **_flags("atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime"),
    **_flags("lazytime nolazytime suid nosuid dev nodev exec noexec silent loud"),
    **_flags("iversion noiversion nosymfollow symfollow _netdev nofail"),
    **_valued(_LABEL, "context fscontext defcontext rootcontext"),
}
EXT4: Allowed = {
    **_flags("acl noacl user_xattr nouser_xattr discard nodiscard delalloc nodelalloc"),
    **_flags("auto_da_alloc noauto_da_alloc journal_checksum nojournal_checksum"),
    **_flags("journal_async_commit dioread_lock dioread_nolock block_validity noblock_validity"),
    **_flags("grpid bsdgroups nogrpid sysvgroups minixdf bsddf nombcache"),
    **_flags("quota noquota usrquota grpquota prjquota noinit_itable"),
    **_valued(_NUMBER, "commit stripe inode_readahead_blks journal_ioprio max_dir_size_kb"),
    **_valued(_NUMBER, "max_batch_time min_batch_time resuid resgid"),
    **_valued(_FLAG, "mb_optimize_scan"),
    "barrier": _one("1?"),
    "data": _one("journal|ordered|writeback"),
    "data_err": _one("abort|ignore"),
    "errors": _one("continue|remount-ro|panic"),
    "init_itable": _one("[0-9]{0,10}"),
}
XFS: Allowed = {
    **_flags("attr2 noattr2 discard nodiscard grpid bsdgroups nogrpid sysvgroups filestreams"),
    **_flags("ikeep noikeep inode32 inode64 largeio nolargeio noalign nouuid swalloc wsync"),
    **_flags("noquota quota uquota usrquota uqnoenforce qnoenforce gquota grpquota gqnoenforce"),
    **_flags("pquota prjquota pqnoenforce"),
    **_valued(_NUMBER, "logbufs sunit swidth"),
    **_valued(_SIZE, "allocsize logbsize"),
}
_COMPRESSION = _one("|(?:zlib|zstd)(?::[0-9]{1,2})?|lzo|no|none")
BTRFS: Allowed = {
    **_flags("acl noacl autodefrag noautodefrag datacow nodatacow datasum nodatasum nodiscard"),
    **_flags("flushoncommit noflushoncommit ssd ssd_spread nossd treelog notreelog"),
    **_flags("nospace_cache skip_balance user_subvol_rm_allowed enospc_debug noenospc_debug"),
    **_flags("barrier"),
    **_valued(_NUMBER, "commit metadata_ratio thread_pool"),
    **_valued(_COMPRESSION, "compress compress-force"),
    "discard": _one("|sync|async"),
    "max_inline": _SIZE,
    "space_cache": _one("|v1|v2"),
}


def require_allowed(options: Iterable[str], fs_type: str, own: Allowed) -> None:
    """Check mount options, some of which may be in one text, with commas between them.

    Args:
        options: the mount flags of a capability.
        fs_type: the filesystem's name, for the message.
        own: the options of this filesystem, besides `GENERIC`.

    Raises:
        InvalidRequest: an option or its value is not allowed; the message names it.
    """
    for option in (each for text in options for each in _split(text)):
        name, equals, value = option.partition("=")
        if name not in GENERIC and name not in own:
            near = difflib.get_close_matches(name, (*GENERIC, *own), n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise errors.InvalidRequest(
                f"mount option {option!r} is not allowed for {fs_type}; {hint}leave it out of "
                "mountOptions (the reference of StorageClasses lists those that are allowed)"
            )
        pattern = GENERIC.get(name) or own.get(name)
        if not (pattern or _EMPTY).fullmatch(value) or (pattern is None and equals):
            expected = f"must match {pattern.pattern}" if pattern else "is none"
            raise errors.InvalidRequest(
                f"mount option {option!r} is not allowed for {fs_type}: the value of {name} "
                f"{expected}; correct it in mountOptions"
            )


def _split(text: str) -> Iterator[str]:
    """Split at the commas that are outside of double quotes, as mount(8) does."""
    return iter(re.findall(r'(?:"[^"]*"|[^,])+', text))
