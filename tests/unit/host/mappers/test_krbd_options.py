import dataclasses

import pytest

from rbdcsi import errors
from rbdcsi.host.mappers import krbd_options
from tests.unit.host.mappers.images import ACCESS, IMAGE, KEY


def _line(monitors: str = "10.0.0.1", options: str = "", readonly: bool = False) -> str:
    access = dataclasses.replace(ACCESS, monitors=monitors)
    return krbd_options.map_line(IMAGE, access, readonly=readonly, options=options)


def test_line_has_the_order_that_the_kernel_documents() -> None:
    line = krbd_options.map_line(IMAGE, ACCESS, readonly=False, options="")

    assert line == (
        "10.0.0.1:6789,10.0.0.2:6789 name=node,key=client.node,noshare volumes csi-pvc-1 -"
    )


def test_namespace_readonly_and_chosen_options_are_added() -> None:
    image = dataclasses.replace(IMAGE, namespace="tenant")

    line = krbd_options.map_line(
        image, ACCESS, readonly=True, options="queue_depth=64,abort_on_full"
    )

    assert ",noshare,read_only,_pool_ns=tenant,queue_depth=64,abort_on_full volumes " in line


@pytest.mark.parametrize(
    ("monitors", "options", "expected"),
    [
        ("[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]", "", "10.0.0.1:6789"),
        ("[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]", "ms_mode=prefer-crc", "10.0.0.1:3300"),
        ("[v2:10.0.0.1:3300,v1:10.0.0.1:6789]", "ms_mode=legacy", "10.0.0.1:6789"),
        ("v1:10.0.0.1", "", "10.0.0.1:6789"),
        ("10.0.0.1,v2:10.0.0.2", "ms_mode=secure", "10.0.0.1:3300,10.0.0.2:3300"),
        ("10.0.0.1:3300,10.0.0.1:6789", "", "10.0.0.1:6789"),
        ("10.0.0.1:3300", "ms_mode=prefer-crc", "10.0.0.1:3300"),
        ("10.0.0.1:6789,10.0.0.1:3300", "ms_mode=crc", "10.0.0.1:3300"),
        ("10.0.0.1:3300/0,10.0.0.1:6789/0", "ms_mode=crc", "10.0.0.1:3300"),
        ("10.0.0.1:3300/0,10.0.0.1:6789/0", "", "10.0.0.1:6789"),
        ("[fd00::1]:6790,[fd00::2]", "", "[fd00::1]:6790,[fd00::2]:6789"),
        ("[fd00::1]:6789,[fd00::2]", "ms_mode=crc", "[fd00::2]:3300"),
    ],
)
def test_monitors_are_given_in_the_protocol_that_is_spoken(
    monitors: str, options: str, expected: str
) -> None:
    assert _line(monitors, options).split(" ")[0] == expected


@pytest.mark.parametrize(
    "monitors", ["v2:10.0.0.1:3300", "10.0.0.1:3300", "10.0.0.1:3300/0", "[v2:10.0.0.1:3300/0]"]
)
def test_version_2_is_asked_for_if_no_monitor_has_version_1(monitors: str) -> None:
    addresses, options, _, _, _ = _line(monitors, "queue_depth=64").split(" ")
    assert addresses == "10.0.0.1:3300"
    assert options.endswith(",noshare,queue_depth=64,ms_mode=prefer-crc")
    chosen = _line(monitors, "ms_mode=secure")
    assert (chosen.count("ms_mode="), "ms_mode=secure" in chosen) == (1, True)


@pytest.mark.parametrize("monitors", ["10.0.0.1", "10.0.0.1:6789", "10.0.0.1:6789,10.0.0.2:3300"])
def test_version_1_is_spoken_where_a_monitor_may_have_it(monitors: str) -> None:
    assert "ms_mode" not in _line(monitors)


@pytest.mark.parametrize(
    ("monitors", "mode", "lacking", "instead"),
    [
        ("v1:10.0.0.1", "prefer-crc", "v2", "port 3300 instead of 6789"),
        ("10.0.0.1:6789", "prefer-crc", "v2", "port 3300 instead of 6789"),
        ("10.0.0.1:6789/0,10.0.0.2:6789", "secure", "v2", "port 3300 instead of 6789"),
        ("10.0.0.1:3300", "legacy", "v1", "port 6789 instead of 3300"),
    ],
)
def test_monitors_of_another_version_than_asked_for_are_refused_with_the_cure(
    monitors: str, mode: str, lacking: str, instead: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        _line(monitors, f"ms_mode={mode}")
    words = (
        f"none has an address of version {lacking}, which the map option ms_mode={mode} asks for"
    )
    assert words in str(caught.value)
    assert f"leave ms_mode={mode} out" in str(caught.value)
    assert instead in str(caught.value)


@pytest.mark.parametrize(
    "option", ["share", "exclusive", "secret=x", "name=admin", "_pool_ns=other", "a b"]
)
def test_options_that_are_the_mappers_own_are_refused(option: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        _line(options=option)


@pytest.mark.parametrize("name", ["a b", "a\nb", ""])
def test_name_that_would_shift_the_line_is_refused(name: str) -> None:
    image = dataclasses.replace(IMAGE, image_name=name)

    with pytest.raises(errors.InvalidRequest):
        krbd_options.map_line(image, ACCESS, readonly=False, options="")


def test_key_is_in_no_error() -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        _line(options="exclusive")

    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("monitors", "addresses"),
    [
        ("10.0.0.1 10.0.0.2;10.0.0.3", "10.0.0.1:6789,10.0.0.2:6789,10.0.0.3:6789"),
        ("[v2:10.0.0.1:3300/0 v1:10.0.0.1:6789/0]", "10.0.0.1:6789"),
        ("[v2:10.0.0.1:3300,v1:10.0.0.1:6789], 10.0.0.2", "10.0.0.1:6789,10.0.0.2:6789"),
    ],
)
def test_monitors_are_parted_as_ceph_parts_them(monitors: str, addresses: str) -> None:
    assert _line(monitors).split()[0] == addresses


def test_monitors_that_cannot_be_read_are_refused_with_words() -> None:
    with pytest.raises(errors.InvalidRequest, match="is not a monitor's address"):
        _line("fd00::1")


def test_line_names_no_key_where_ceph_checks_none() -> None:
    access = dataclasses.replace(ACCESS, key=None)
    line = krbd_options.map_line(IMAGE, access, readonly=False, options="")
    assert line.split()[1] == f"name={ACCESS.user},noshare"
