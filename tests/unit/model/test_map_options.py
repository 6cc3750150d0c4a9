import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.model import map_options


@pytest.mark.parametrize(
    ("mapper", "text", "passed_on"),
    [
        ("krbd", "", ()),
        ("krbd", "lock_on_read,queue_depth=1024", ("lock_on_read", "queue_depth=1024")),
        ("krbd", "noshare, noudev ,rw,crc", ("crc",)),
        (
            "krbd",
            "read_from_replica=localize,crush_location=zone:east-1|region:east",
            ("read_from_replica=localize", "crush_location=zone:east-1|region:east"),
        ),
        (
            "krbd",
            "queue_depth=1,alloc_size=512,osdkeepalive=1,lock_timeout=2147483,mount_timeout=0",
            (
                "queue_depth=1",
                "alloc_size=512",
                "osdkeepalive=1",
                "lock_timeout=2147483",
                "mount_timeout=0",
            ),
        ),
        ("krbd", "ms_mode=prefer-secure,rxbounce", ("ms_mode=prefer-secure", "rxbounce")),
        ("krbd", "osd_request_timeout=0", ("osd_request_timeout=0",)),
        ("krbd", "queue_depth=0200", ("queue_depth=0200",)),  # octal for the kernel
        ("nbd", "try-netlink", ()),
        ("nbd", "timeout=60,reattach-timeout=30", ("timeout=60", "reattach-timeout=30")),
        ("fuse", "rbd_read_from_replica_policy=balance", ("rbd_read_from_replica_policy=balance",)),
    ],
)
def test_options_are_passed_on_but_for_those_that_are_done_anyway(
    mapper: str, text: str, passed_on: tuple[str, ...]
) -> None:
    assert map_options.parse(mapper, text) == passed_on


@pytest.mark.parametrize(
    ("mapper", "text", "words"),
    [
        ("krbd", "share", "'share' is not allowed for krbd: each device has a Ceph client"),
        ("krbd", "exclusive", "the attachment record already keeps other writers away"),
        ("krbd", "ro", "accessModes and readOnly decide"),
        ("krbd", "name=admin", "user and key come from the Secret"),
        ("krbd", "ip=10.0.0.1", "the driver sets it"),
        ("krbd", "_pool_ns=other", "the driver sets it"),
        ("krbd", "no_such", "'no_such' is not allowed for krbd: allowed are abort_on_full, "),
        ("krbd", "queue_depth", "queue_depth='' is not allowed for krbd: the value must be a "),
        ("krbd", "queue_depth=", "queue_depth='' is not allowed for krbd: no value follows; the "),
        ("krbd", "queue_depth=0", "the value must be a number from 1 to 4294967295"),
        ("krbd", "queue_depth=4294967296", "the value must be a number from 1 to 4294967295"),
        ("krbd", "alloc_size=1000", "the value must be a power of two from 512 to 2147483648"),
        ("krbd", "alloc_size=256", "the value must be a power of two from 512 to 2147483648"),
        ("krbd", "osdkeepalive=0", "the value must be a number from 1 to 2147483"),
        ("krbd", "osd_idle_ttl=2147484", "the value must be a number from 1 to 2147483"),
        ("krbd", "lock_timeout=9999999999", "the value must be a number from 0 to 2147483"),
        ("krbd", "osd_request_timeout=2147484", "the value must be a number from 0 to 2147483"),
        ("krbd", "compression_hint=all", "the value must be none, compressible or incompressible"),
        ("krbd", "crush_location=here", "the value must be TYPE:NAME, several with | between them"),
        ("nbd", "io-timeout=2147483648", "the value must be a number from 0 to 2147483647"),
        ("krbd", "queue_depth=many", "queue_depth='many' is not allowed"),
        ("krbd", "queue_depth=1 ro", "queue_depth='1 ro' is not allowed"),
        ("krbd", "ms_mode=none", "ms_mode='none' is not allowed"),
        ("krbd", "crc=1", "crc of krbd has no value; write crc"),
        ("krbd", "noshare=1", "'noshare' is not allowed"),
        ("nbd", "quiesce-hook=/bin/sh", "would run as root on the node"),
        ("nbd", "device=/dev/sda", "the driver sets it"),
        ("nbd", "max_part=4", "allowed are io-timeout, reattach-timeout, timeout"),
        ("fuse", "queue_depth=8", "'queue_depth' is not allowed for fuse: allowed are rados_"),
        ("fuse", "rbd_cache=true", "caches no writes"),
        ("fuse", "rbd_persistent_cache_path=/etc", "'rbd_persistent_cache_path' is not allowed"),
        ("fuse", "rados_osd_op_timeout=5\nkeyring=/etc/shadow", "is not allowed"),
    ],
)
def test_options_that_no_node_takes_are_refused_with_the_reason(
    mapper: str, text: str, words: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        map_options.parse(mapper, text)
    assert words in str(refused.value)


def test_a_key_is_not_in_the_refusal() -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        map_options.parse("krbd", "secret=AQBsecret")
    assert "AQBsecret" not in str(refused.value)


@given(st.sampled_from(sorted(map_options.TABLE)), st.text())
def test_any_text_is_refused_or_stays_on_one_line(mapper: str, text: str) -> None:
    try:
        passed_on = map_options.parse(mapper, text)
    except errors.InvalidRequest:
        return
    assert all(len(option.split()) == 1 and "/" not in option for option in passed_on)
