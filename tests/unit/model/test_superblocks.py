"""Real superblocks of each size, and bytes that are none."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi.host import command
from rbdcsi.model import filesystems, superblocks

MIB = 1 << 20
HEAD = superblocks.HEAD_BYTES


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(HEAD)


def _made(file: Path, fs_type: str, size: int, *options: str) -> None:
    file.unlink(missing_ok=True)
    file.touch()
    os.truncate(file, size)
    command.run((f"mkfs.{fs_type}", "-q", *options, str(file)), seconds=60)


@pytest.mark.parametrize(
    ("fs_type", "options", "sizes"),
    [
        ("ext4", (), (16, 64, 127, 128, 129, 130, 131, 400, 513, 1030)),
        ("ext4", ("-b", "1024"), (16, 65, 129, 400)),
        ("ext4", ("-O", "^64bit"), (16, 129, 400)),
        ("xfs", (), (300, 301, 513, 1030)),
        ("btrfs", (), (128, 129, 513)),
    ],
)
def test_a_new_filesystem_uses_all_that_it_can_and_a_larger_device_gives_room(
    tmp_path: Path, fs_type: str, options: tuple[str, ...], sizes: tuple[int, ...]
) -> None:
    file = tmp_path / "image"
    for size in sizes:
        _made(file, fs_type, size * MIB, *options)
        head = _head(file)
        assert superblocks.unused_bytes(fs_type, head, size * MIB) == 0, size
        unused = superblocks.unused_bytes(fs_type, head, (size + 512) * MIB)
        assert unused is not None
        assert 480 * MIB < unused <= 528 * MIB
        assert superblocks.unused_bytes(fs_type, head, (size - 1) * MIB) == 0


@pytest.mark.parametrize("options", [(), ("-b", "1024"), ("-O", "^64bit")])
def test_ext4_is_said_to_grow_where_resize2fs_grows_it(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A last group that has no room for data is left out, by this rule and by resize2fs."""
    file = tmp_path / "image"
    _made(file, "ext4", 64 * MIB, *options)
    for size in (65, 67, 128, 129, 130, 131, 136, 256, 257, 258, 260, 384, 385, 386, 390):
        os.truncate(file, size * MIB)
        unused = superblocks.unused_bytes("ext4", _head(file), size * MIB)
        command.run(("e2fsck", "-fy", str(file)), seconds=60, ok=(0, 1))
        before = _head(file)
        command.run(("resize2fs", str(file)), seconds=60)
        assert bool(unused) is (before[1028:1032] != _head(file)[1028:1032]), size
        assert superblocks.unused_bytes("ext4", _head(file), size * MIB) == 0, size


@given(
    st.sampled_from([*filesystems.TABLE, "vfat"]),
    st.binary(max_size=4096),
    st.sampled_from([0, 1024, 1024 + 0x38, 64 << 10, (64 << 10) + 0x40]),
    st.sampled_from([b"", b"\x53\xef", b"XFSB", b"_BHRfS_M"]),
    st.integers(0, 1 << 60),
)
def test_no_bytes_are_a_problem(
    fs_type: str, noise: bytes, offset: int, magic: bytes, device_bytes: int
) -> None:
    head = bytearray(HEAD)
    head[offset : offset + len(noise)] = noise
    head[offset : offset + len(magic)] = magic
    unused = superblocks.unused_bytes(fs_type, bytes(head[:HEAD]), device_bytes)
    assert unused is None or 0 <= unused <= device_bytes
    assert superblocks.unused_bytes(fs_type, bytes(noise), device_bytes) is None
