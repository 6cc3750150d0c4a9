"""The mount options that a StorageClass may have: those of all filesystems, and each one's own.

mount(8) runs as root on the host. So no list has an option that names a file, a directory or a
device, that mounts something else than the device (`bind`, `loop`, `subvol`), that changes another
mount (`remount`), or that mounts a filesystem without the repair of its log (`norecovery`). See
mount(8), ext4(5), xfs(5), btrfs(5) and the kernel's Documentation/filesystems.
"""

import difflib
import re
from collections.abc import Iterable, Iterator

from rbdcsi import errors
from rbdcsi.model import option_values
from rbdcsi.model.option_values import (
    FLAG,
    NOTHING,
    Allowed,
    Choice,
    Either,
    Number,
    Text,
    excludes,
    flags,
    mistake_of,
    needs,
    valued,
)

_U32 = Number(0, 2**32 - 1)
_NO_OR = Choice("0")
# A label with levels such as s0:c1,c2 is in quotes, as the kubelet writes it.
_LABEL = Text(r'"[\w:.,-]+"|[\w:.-]+', "a label of SELinux, in quotes if it has a comma")

GENERIC: Allowed = {
    **flags("defaults ro rw sync async dirsync"),
    **flags("atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime"),
    **flags("lazytime nolazytime suid nosuid dev nodev exec noexec silent loud"),
    **flags("iversion noiversion nosymfollow symfollow _netdev nofail"),
    **valued(_LABEL, "context fscontext defcontext rootcontext"),
}
EXT4: Allowed = {
    **flags("acl noacl user_xattr nouser_xattr discard nodiscard delalloc nodelalloc"),
    **flags("auto_da_alloc noauto_da_alloc journal_checksum nojournal_checksum"),
    **flags("journal_async_commit dioread_lock dioread_nolock block_validity noblock_validity"),
    **flags("grpid bsdgroups nogrpid sysvgroups minixdf bsddf nombcache"),
    **flags("quota noquota usrquota grpquota prjquota noinit_itable"),
    **valued(_U32, "stripe max_dir_size_kb max_batch_time min_batch_time"),
    **valued(Number(0, 2**32 - 2), "resuid resgid"),
    "commit": Number(0, 2**31 // 100),  # less than 2**31 ticks, of which a second has 100 or more
    "inode_readahead_blks": Either(_NO_OR, Number(1, 1 << 30, power_of_2=True)),
    "journal_ioprio": Number(0, 7),
    "mb_optimize_scan": FLAG,
    "barrier": Choice("", "1"),
    "data": Choice("journal", "ordered", "writeback"),
    "data_err": Choice("abort", "ignore"),
    "errors": Choice("continue", "remount-ro", "panic"),
    "init_itable": Either(NOTHING, _U32),
}
EXT4_RULES = (
    needs("journal_async_commit", "data=(?:writeback|journal)", "data=writeback or data=journal"),
    excludes("delalloc", "data=journal", "data=journal"),
)
XFS: Allowed = {
    **flags("attr2 noattr2 discard nodiscard grpid bsdgroups nogrpid sysvgroups filestreams"),
    **flags("ikeep noikeep inode32 inode64 largeio nolargeio noalign nouuid swalloc wsync"),
    **flags("noquota quota uquota usrquota uqnoenforce qnoenforce gquota grpquota gqnoenforce"),
    **flags("pquota prjquota pqnoenforce"),
    **valued(_U32, "sunit swidth"),
    "logbufs": Either(_NO_OR, Number(2, 8)),
    "logbsize": Either(_NO_OR, Number(16 << 10, 256 << 10, "kmg", power_of_2=True)),
    "allocsize": Number(4096, 2**31 - 1, "kmg", multiple_of=4096),
}
XFS_RULES = (
    needs("sunit=0*[1-9].*", "swidth=0*[1-9].*", "swidth"),
    needs("swidth=0*[1-9].*", "sunit=0*[1-9].*", "sunit"),
    excludes("noalign", "(?:sunit|swidth)=0*[1-9].*", "sunit or swidth"),
)
_COMPRESSION = Text(
    "|(?:zlib|zstd)(?::[0-9]{1,2})?|lzo|no|none",
    "nothing, zlib, zstd, lzo, no or none; zlib and zstd also with :LEVEL",
)
BTRFS: Allowed = {
    **flags("acl noacl autodefrag noautodefrag datacow nodatacow datasum nodatasum nodiscard"),
    **flags("flushoncommit noflushoncommit ssd ssd_spread nossd treelog notreelog"),
    **flags("nospace_cache skip_balance user_subvol_rm_allowed enospc_debug noenospc_debug"),
    **flags("barrier"),
    **valued(_U32, "commit metadata_ratio"),
    **valued(_COMPRESSION, "compress compress-force"),
    "discard": Choice("", "sync", "async"),
    "max_inline": Number(0, 2**64 - 1, "kmgtpe"),
    "space_cache": Choice("", "v1", "v2"),
    "thread_pool": Number(1, 2**32 - 1),
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
        values = GENERIC[name] if name in GENERIC else own[name]
        if mistake := mistake_of(values, value if equals else None):
            raise errors.InvalidRequest(
                f"mount option {option!r} is not allowed for {fs_type}: {mistake}; correct it in "
                "mountOptions"
            )


def require_together(
    options: Iterable[str], fs_type: str, rules: Iterable[option_values.Rule]
) -> None:
    """Check the rules between mount options that `require_allowed` has accepted.

    Args:
        options: the mount flags of a capability.
        fs_type: the filesystem's name, for the message.
        rules: of this filesystem.

    Raises:
        InvalidRequest: the kernel takes each of the options, but not all of them together.
    """
    settings = [each for text in options for each in _split(text)]
    if breach := option_values.broken(rules, settings):
        raise errors.InvalidRequest(f"mount options for {fs_type}: {breach}, in mountOptions")


def _split(text: str) -> Iterator[str]:
    """Split at the commas that are outside of double quotes, as mount(8) does."""
    return iter(re.findall(r'(?:"[^"]*"|[^,])+', text))
