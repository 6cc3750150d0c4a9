from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.model import node_options, storage_class


def test_nothing_given_leaves_everything_to_defaults() -> None:
    assert storage_class.parse({}) == storage_class.Parameters()


def test_every_known_parameter_is_read() -> None:
    read = storage_class.parse(
        {
            "clusterID": "c", "pool": "p", "dataPool": "d", "radosNamespace": "n",
            "imageFeatures": "layering", "volumeNamePrefix": "vol-", "objectSize": "8Mi",
            "stripeUnit": "64K", "stripeCount": "4", "mounter": "rbd-nbd",
            "tryOtherMounters": "true", "mapOptions": "krbd:crc,noshare;nbd:timeout=5",
            "unmapOptions": "force", "mkfsOptions": "-m0 -E 'a b'", storage_class.FSTYPE: "xfs",
            storage_class.PVC_NAME: "pvc", storage_class.PVC_NAMESPACE: "ns",
            storage_class.PV_NAME: "pv",
        }
    )  # fmt: skip
    assert read == storage_class.Parameters(
        cluster_id="c", pool="p", data_pool="d", namespace="n", features=("layering",),
        name_prefix="vol-", object_bytes=8 << 20, stripe_unit=64 << 10, stripe_count=4,
        fs_type="xfs", pvc_name="pvc", pvc_namespace="ns", pv_name="pv",
        node=node_options.NodeOptions(
            mapper="nbd", try_other_mappers=True,
            map_options={"krbd": "crc,noshare", "nbd": "timeout=5"},
            unmap_options={"krbd": "force"}, mkfs_options="-m0 -E 'a b'",
        ),
    )  # fmt: skip


@given(st.dictionaries(st.sampled_from(storage_class.KNOWN) | st.text(), st.text()))
def test_any_text_is_read_or_refused_by_name(parameters: Mapping[str, str]) -> None:
    read, refusal = None, ""
    try:
        read = storage_class.parse(parameters)
    except errors.InvalidRequest as error:
        refusal = str(error)
    if read is None:
        assert any(name in refusal or repr(name) in refusal for name in parameters)
    else:
        known = {*storage_class.KNOWN, *storage_class.AS_DONE, *storage_class.WITHOUT_EFFECT}
        assert {name for name in parameters if not name.startswith("csi.storage")} <= known
        assert read.object_bytes in {1 << order for order in range(12, 26)}


@pytest.mark.parametrize("name", storage_class.KNOWN)
def test_an_empty_value_is_like_none_given(name: str) -> None:
    assert storage_class.parse({name: ""}) == storage_class.Parameters()


def test_an_unknown_parameter_is_refused_with_the_nearest_and_all_that_are_known() -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        storage_class.parse({"datapool": "x"})
    assert "unknown parameter 'datapool'; did you mean dataPool?" in str(refused.value)
    assert all(name in str(refused.value) for name in storage_class.KNOWN)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("encrypted", "true", "would lie in Ceph unencrypted"),
        ("encrypted", "T", "would lie in Ceph unencrypted"),
        ("encrypt", "true", "would lie in Ceph unencrypted"),
        ("encryption", "true", "would lie in Ceph unencrypted"),
        ("thickProvision", "1", "all images are thin"),
        ("topologyConstrainedPools", "[]", "make a StorageClass for each pool"),
        ("thickProvision", "true", "all images are thin"),
        ("imageFormat", "1", "deprecated"),
        ("maxReadIops", "100", "limits no I/O"),
        ("iopsPerGiB", "100", "limits no I/O"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_words(name: str, value: str, words: str) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        storage_class.parse({name: value})
    assert f"parameter {name}: {value!r} is not supported" in str(refused.value)
    assert words in str(refused.value)


def test_details_of_an_encryption_are_refused_with_it() -> None:
    with pytest.raises(errors.InvalidRequest, match="parameter encryptionKMSID: 'vault' is not"):
        storage_class.parse({"encryptionKMSID": "vault", "encrypted": "True"})


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "True", "TRUE"])
def test_flags_are_spelled_as_for_ceph_csi(text: str) -> None:
    assert storage_class.parse({"tryOtherMounters": text}).node.try_other_mappers


@pytest.mark.parametrize("name", ["encrypted", "thickProvision", "tryOtherMounters"])
def test_a_flag_that_is_neither_is_refused_as_such(name: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=f"^{name}: 'no'; write true or false"):
        storage_class.parse({name: "no"})


@pytest.mark.parametrize(
    "parameters",
    [
        {"encrypted": "false"},
        {"encrypted": "False"},
        {"encrypted": "0"},
        {"encryptionType": "block"},
        {"encryptionKMSID": "vault", "integrityMode": "x"},
        {"thickProvision": "FALSE", "tryOtherMounters": "f"},
        {"encrypted": "false", "encryptionKMSID": "vault", "encryptionType": "block"},
        {"imageFormat": "2"},
        {"thickProvision": "false"},
        {"cephLogDir": "/var/log/ceph", "cephLogStrategy": "remove"},
        {"snapshotNamePrefix": "snap-"},
        {"csi.storage.k8s.io/node-stage-secret-name": "csi-rbd-secret"},
        {"csi.storage.k8s.io/some-later-name": "x"},
    ],
    ids=str,
)
def test_what_is_done_anyway_or_changes_nothing_is_accepted(parameters: dict[str, str]) -> None:
    assert storage_class.parse(parameters) == storage_class.Parameters()


@pytest.mark.parametrize(
    ("text", "mapper"), [("rbd-nbd", "nbd"), ("RBD-NBD", "nbd"), ("Rbd", "krbd")]
)
def test_mounters_are_read_in_any_case(text: str, mapper: str) -> None:
    assert storage_class.parse({"mounter": text}).node.mapper == mapper
    options = storage_class.parse(
        {"mapOptions": f"{text}: {'crc' if mapper == 'krbd' else 'try-netlink'}"}
    )
    assert list(options.node.map_options) == [mapper]


def test_the_older_name_of_the_filesystem_is_read() -> None:
    assert storage_class.parse({"fstype": "xfs"}).fs_type == "xfs"


JOURNALED = {"imageFeatures": "layering,exclusive-lock,journaling"}


def test_journaling_is_refused_where_krbd_alone_may_map() -> None:
    with pytest.raises(errors.InvalidRequest, match="no image with the feature journaling"):
        storage_class.parse({**JOURNALED, "mounter": "rbd"})
    for others in ({"mounter": "rbd-nbd"}, {"mounter": "rbd", "tryOtherMounters": "true"}, {}):
        assert "journaling" in storage_class.parse({**JOURNALED, **others}).features


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"clusterID": "a b"}, "clusterID: 'a b' does not match"),
        ({"radosNamespace": "a/b"}, "radosNamespace: 'a/b' does not match"),
        ({"volumeNamePrefix": "a/b"}, "volumeNamePrefix: 'a/b' does not match"),
        ({"volumeNamePrefix": "x" * 33}, "does not match"),
        ({"objectSize": "3M"}, "power of two from 4K to 32M"),
        ({"objectSize": "64M"}, "power of two from 4K to 32M"),
        ({"objectSize": "0"}, "power of two from 4K to 32M"),
        ({"objectSize": "4 MB!"}, "'4 MB!' is not a size; write a number of bytes"),
        ({"stripeUnit": "64K"}, "go together"),
        ({"stripeCount": "4"}, "go together"),
        ({"stripeUnit": "64K", "stripeCount": "0"}, "stripeCount: '0' is not a number from 1"),
        ({"stripeUnit": "64K", "stripeCount": "²"}, "'²' is not a number from 1"),
        ({"stripeUnit": "0", "stripeCount": "4"}, "do not divide"),
        ({"stripeUnit": "3K", "stripeCount": "4"}, "3072 bytes do not divide the objectSize"),
        ({"mounter": "qemu"}, "mounter: 'qemu' is unknown; use one of krbd"),
        ({"tryOtherMounters": "yes"}, "write true or false"),
        ({"mapOptions": "krbd:crc;rbd:crc"}, "options for krbd are given twice"),
        ({"mapOptions": "exclusive"}, "mapOptions: 'exclusive' is not allowed for krbd"),
        ({"mapOptions": "nbd:try-netlink;fuse:queue_depth=8"}, "not allowed for fuse"),
        ({"mapOptions": "qemu:crc"}, "'qemu:crc' is not allowed for krbd"),
        ({"unmapOptions": "full-force"}, "unmapOptions: 'full-force' for krbd; write force"),
        ({"unmapOptions": "krbd:force;nbd:wait"}, "unmapOptions: 'wait' for nbd; write force"),
        ({"unmapOptions": "force,lazy"}, "unmapOptions: 'force,lazy' for krbd"),
        ({"unmapOptions": "qemu:force"}, "unmapOptions: 'qemu:force' for krbd"),
        ({"mkfsOptions": "-L 'x"}, "open quotation"),
        ({"imageFeatures": "layering,fast-diff"}, "fast-diff needs object-map"),
    ],
)
def test_a_malformed_value_is_refused_by_its_name(parameters: dict[str, str], words: str) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        storage_class.parse(parameters)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("force", {"krbd": "force"}),
        ("krbd:force", {"krbd": "force"}),
        ("krbd:force;nbd:force", {"krbd": "force", "nbd": "force"}),
        ("krbd: force; NBD :force", {"krbd": "force", "nbd": "force"}),
        ("rbd-nbd:force; fuse:force", {"nbd": "force", "fuse": "force"}),
    ],
)
def test_unmap_options_of_ceph_csi_s_and_rook_s_examples_are_read(
    text: str, options: dict[str, str]
) -> None:
    assert storage_class.parse({"unmapOptions": text}).node.unmap_options == options
