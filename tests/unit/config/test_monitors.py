import pytest

from rbdcsi.config import monitors


@pytest.mark.parametrize(
    "entry",
    [
        "10.0.0.1",
        "10.0.0.1:6789",
        "mon-a.storage.example:3300",
        "v1:10.0.0.1:6789",
        "v2:10.0.0.1:3300/0",
        "[fd00::1]",
        "[fd00::1]:6789",
        "v2:[fd00::1]:3300",
        "[v2:10.0.0.1:3300,v1:10.0.0.1:6789]",
        "[v2:[fd00::1]:3300/0,v1:[fd00::1]:6789/0]",
    ],
)
def test_an_address_as_ceph_writes_it_is_taken_as_it_is(entry: str) -> None:
    assert monitors.parse([entry]) == (entry,)


@pytest.mark.parametrize("separator", [",", ", ", ";", " ", " ; ", ",,"])
def test_separators_part_monitors_but_not_the_addresses_of_one_monitor(separator: str) -> None:
    text = separator.join(("10.0.0.1", "[v2:[fd00::1]:3300,v1:[fd00::1]:6789]", "mon-c"))
    assert monitors.parse(text) == (
        "10.0.0.1",
        "[v2:[fd00::1]:3300,v1:[fd00::1]:6789]",
        "mon-c",
    )


@pytest.mark.parametrize(
    "entry",
    ["10.0.0.1:0", "10.0.0.1:65536", "fd00::1", "-a", "v3:10.0.0.1", "[v2:10.0.0.1",
     "http://10.0.0.1", "[v2:10.0.0.1:99999]", "[10.0.0.1:1,10.0.0.1:2]"],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_quoted(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a monitor's address; give one such as"):
        monitors.parse([entry])


@pytest.mark.parametrize("nothing", [[], "", " "])
def test_no_monitor_at_all_is_refused(nothing: object) -> None:
    with pytest.raises(ValueError, match="at least one monitor"):
        monitors.parse(nothing)


@pytest.mark.parametrize("other", [7, None, {"a": "b"}])
def test_what_is_no_list_is_refused(other: object) -> None:
    with pytest.raises(ValueError, match="must be a list"):
        monitors.parse(other)


@pytest.mark.parametrize("other", [None, True, 10.5, ["10.0.0.1"]])
def test_an_address_that_is_no_text_is_refused(other: object) -> None:
    with pytest.raises(ValueError, match="each address must be text; put it in quotes"):
        monitors.parse(["10.0.0.1", other])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("10.0.0.1,10.0.0.2:6789", True),
        ("[v2:[fd00::1]:3300/0,v1:[fd00::1]:6789/0]; [fd00::2]", True),
        ("10.0.0.1,mon-b", False),
        ("v2:mon-a.storage.example:3300", False),
        ("[v2:mon-a:3300,v1:mon-a:6789]", False),
    ],
)
def test_names_among_the_monitors_are_seen(text: str, answer: bool) -> None:
    assert monitors.without_names(text) is answer
