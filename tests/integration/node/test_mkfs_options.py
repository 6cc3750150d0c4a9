"""Options of mkfs reach nothing but the volume's device, wherever they were written."""

import pytest

from e2e import volume
from rbdcsi.model.format_mark import Mark, Phase
from rbdcsi.volumes import spec
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

SECRET = b"a file of the host, which no volume may hold"


def test_files_of_the_host_do_not_get_into_a_volume(lab: Lab) -> None:
    node = lab.nodes[0]
    host = node.directory / "host"
    host.mkdir()
    (host / "secret").write_bytes(SECRET)
    with lab.volume("mkfs-tampered") as made:
        lab.change_spec(made, mkfs_options=f"-d {host}")
        before = lab.checksum(made)
        with refused("FAILED_PRECONDITION", made.context["imageName"], "'-d' is not allowed"):
            volume.stage(node, made)
        assert (lab.checksum(made), lab.mark(made)) == (before, None)
        assert labs.held_at(node) == []
        lab.change_spec(made, mkfs_options="")
        volume.stage(node, made)
        assert [path.name for path in made.staging(node).iterdir()] == ["lost+found"]


@pytest.mark.parametrize("text", ["-Kf", "-l logdev=/dev/null", "-d name=/dev/null", "/dev/null"])
def test_options_in_metadata_are_refused_before_anything_is_marked(lab: Lab, text: str) -> None:
    capability = volume.mounted("xfs")
    with lab.volume("mkfs-xfs", capability=capability, size=512 * labs.MIB) as made:
        lab.change_spec(made, mkfs_options=text)
        with refused("FAILED_PRECONDITION", "is not allowed for xfs"):
            volume.stage(lab.nodes[0], made)
        assert lab.mark(made) is None


def test_blocks_that_this_kernel_does_not_mount_are_refused_before_mkfs_runs(lab: Lab) -> None:
    parameters, size = {"mkfsOptions": "-K -s 64k -n 64k"}, 512 * labs.MIB
    capability = volume.mounted("btrfs")
    with lab.volume("mkfs-sector", capability=capability, size=size, parameters=parameters) as made:
        with refused("FAILED_PRECONDITION", "mounts btrfs with sectors of 4096", "not 65536"):
            volume.stage(lab.nodes[0], made)
        assert lab.mark(made) is None


def test_formatted_volume_is_mounted_whatever_its_options_are_now(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("mkfs-later") as made:
        volume.stage(node, made)
        volume.unstage(node, made)
        lab.change_spec(made, mkfs_options="-d /etc")
        volume.stage(node, made)
        assert lab.mark(made) == Mark(Phase.FORMATTED, "ext4")


def test_filesystem_in_metadata_must_be_a_known_one(lab: Lab) -> None:
    with lab.volume("mkfs-type", capability=volume.mounted("")) as made:
        with lab.image(made) as image:
            text = image.metadata_get(spec.KEY)
            image.metadata_set(spec.KEY, text.replace('"ext4"', '"tmpfs"'))
        with refused("FAILED_PRECONDITION", spec.KEY, "'tmpfs'", "ext4, xfs, btrfs"):
            volume.stage(lab.nodes[0], made)
        assert labs.held_at(lab.nodes[0]) == []
        lab.set_metadata(made, spec.KEY, text)


@pytest.mark.parametrize(
    ("fs_type", "text"),
    [
        ("ext4", "-d /etc"),
        ("ext4", "-i size=512"),
        ("ext4", "-i 10"),
        ("xfs", "-f"),
        ("xfs", "-b size=3000"),
        ("btrfs", "-s 2k"),
        ("", "-F"),
    ],
)
def test_options_that_are_not_allowed_are_refused_before_there_is_a_volume(
    lab: Lab, fs_type: str, text: str
) -> None:
    with refused("INVALID_ARGUMENT", "mkfsOptions: ", "is not allowed for"):
        volume.create(
            lab.controller,
            "mkfs-refused",
            capability=volume.mounted(fs_type),
            parameters={"mkfsOptions": text},
        )


@pytest.mark.parametrize(
    ("fs_type", "text"), [("ext4", "-C 16k"), ("xfs", "-d su=64k"), ("xfs", "-l version=1")]
)
def test_options_that_do_not_go_together_are_refused_before_there_is_a_volume(
    lab: Lab, fs_type: str, text: str
) -> None:
    with refused("INVALID_ARGUMENT", f"mkfsOptions for {fs_type}: '{text}' needs "):
        volume.create(
            lab.controller,
            "mkfs-refused",
            capability=volume.mounted(fs_type),
            parameters={"mkfsOptions": text},
        )


@pytest.mark.parametrize(
    ("fs_type", "text"),
    [
        ("ext4", "-m0 -Ediscard"),
        ("ext4", "-E nodiscard,lazy_itable_init=1 -b 4096"),
        ("xfs", "-i size=512 -m reflink=1 -K"),
        ("btrfs", "-K -m single --csum=xxhash -O no-holes"),
    ],
)
def test_common_options_make_a_filesystem(lab: Lab, fs_type: str, text: str) -> None:
    capability, parameters = volume.mounted(fs_type), {"mkfsOptions": text}
    size = 512 * labs.MIB
    with lab.volume("mkfs-ok", capability=capability, size=size, parameters=parameters) as made:
        volume.stage(lab.nodes[0], made)
        assert labs.mount_at(made.staging(lab.nodes[0])).fs_type == fs_type


def test_block_volumes_of_a_class_with_options_are_made(lab: Lab) -> None:
    parameters = {"mkfsOptions": "-i size=512", "csi.storage.k8s.io/fstype": "xfs"}
    with lab.volume("mkfs-block", capability=volume.raw(), parameters=parameters) as made:
        volume.stage(lab.nodes[0], made)
