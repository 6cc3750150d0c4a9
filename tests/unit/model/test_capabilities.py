import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.api import csi_pb2
from rbdcsi.model import capabilities
from rbdcsi.model.capabilities import AccessMode, Capability
from rbdcsi.model.filesystems import TABLE

MODES = st.sampled_from(AccessMode)


def test_the_modes_are_csi_s() -> None:
    known = set(csi_pb2.VolumeCapability.AccessMode.Mode.keys())
    assert {mode.name for mode in AccessMode} == known - {"UNKNOWN"}
    assert all(mode.name == mode.value for mode in AccessMode)


@given(MODES)
def test_raw_block_takes_every_mode(mode: AccessMode) -> None:
    capabilities.check(Capability(mode, block=True))


@given(MODES, st.sampled_from(["", *TABLE]))
def test_a_filesystem_is_never_written_by_several_nodes(mode: AccessMode, fs_type: str) -> None:
    capability = Capability(mode, block=False, fs_type=fs_type)
    if mode.single_node or mode.reader_only:
        capabilities.check(capability)
    else:
        with pytest.raises(errors.InvalidRequest, match=f"{mode.value} with a filesystem would"):
            capabilities.check(capability)


def test_an_unknown_filesystem_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(errors.InvalidRequest, match="'zfs' is not supported; use one of ext4, xfs"):
        capabilities.check(Capability(AccessMode.SINGLE_NODE_WRITER, block=False, fs_type="zfs"))


def _mount(fs_type: str = "") -> Capability:
    return Capability(AccessMode.SINGLE_NODE_WRITER, block=False, fs_type=fs_type)


RAW = Capability(AccessMode.SINGLE_NODE_WRITER, block=True)


@pytest.mark.parametrize(
    ("wanted", "parameter", "found"),
    [
        ([RAW], "xfs", None),
        ([_mount()], None, "ext4"),
        ([_mount()], "xfs", "xfs"),
        ([_mount("btrfs")], "xfs", "btrfs"),
        ([RAW, _mount("xfs")], None, "xfs"),
        ([_mount(), _mount("xfs")], "ext4", "xfs"),
    ],
)
def test_the_capability_s_filesystem_goes_before_the_parameter_s(
    wanted: list[Capability], parameter: str | None, found: str | None
) -> None:
    assert capabilities.filesystem(wanted, parameter) == found


def test_two_filesystems_in_one_volume_are_refused() -> None:
    with pytest.raises(errors.InvalidRequest, match="ask for ext4, xfs; ask for one"):
        capabilities.filesystem([_mount("xfs"), _mount("ext4")], None)


SNW, SNRO = AccessMode.SINGLE_NODE_WRITER, AccessMode.SINGLE_NODE_READER_ONLY
SNSW, SNMW = AccessMode.SINGLE_NODE_SINGLE_WRITER, AccessMode.SINGLE_NODE_MULTI_WRITER
MNRO, MNSW = AccessMode.MULTI_NODE_READER_ONLY, AccessMode.MULTI_NODE_SINGLE_WRITER
MNMW = AccessMode.MULTI_NODE_MULTI_WRITER

COVERED = {
    SNW: {SNW, SNMW, SNSW, SNRO},
    SNMW: {SNW, SNMW, SNSW, SNRO},
    SNSW: {SNSW, SNRO},
    SNRO: {SNRO},
    MNRO: {MNRO, SNRO},
    MNSW: {MNSW, SNW, SNMW, SNSW, MNRO, SNRO},
    MNMW: {MNMW, MNSW, SNW, SNMW, SNSW, MNRO, SNRO},
}


@pytest.mark.parametrize("attached", AccessMode)
@pytest.mark.parametrize("asked", AccessMode)
def test_an_attachment_covers_these_modes_and_no_others(
    attached: AccessMode, asked: AccessMode
) -> None:
    assert capabilities.covers(attached, asked) == (asked in COVERED[attached])


def test_mount_flags_are_checked_by_the_filesystem() -> None:
    mode = AccessMode.SINGLE_NODE_WRITER
    nouuid = Capability(mode, block=False, mount_flags=("nouuid",))
    capabilities.require_mount_flags([nouuid], "xfs")
    with pytest.raises(errors.InvalidRequest, match="mount option 'nouuid' is not allowed"):
        capabilities.require_mount_flags([nouuid], "ext4")
