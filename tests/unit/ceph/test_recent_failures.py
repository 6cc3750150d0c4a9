import pytest

from rbdcsi import errors
from rbdcsi.ceph.recent_failures import RecentFailures
from rbdcsi.config.secret import Secret

SLOT, KEY, OTHER_KEY = ("cluster", "user"), Secret("a"), Secret("b")


def _fail(failures: RecentFailures, error: errors.RbdCsiError) -> None:
    with pytest.raises(type(error)), failures.attempt(SLOT, KEY):
        raise error


def test_after_a_failure_others_fail_at_once_with_its_message() -> None:
    failures = RecentFailures(15)
    failures.require_none(SLOT, KEY)
    _fail(failures, errors.Unavailable("no monitor answers"))
    with pytest.raises(errors.Unavailable, match=r"^no monitor answers \(tried 0 s ago"):
        failures.require_none(SLOT, KEY)
    failures.require_none(("other", "user"), KEY)
    failures.require_none(SLOT, OTHER_KEY)  # it was rotated


def test_others_fail_while_one_tries_again_and_go_on_after_its_success() -> None:
    failures = RecentFailures(15)
    _fail(failures, errors.Unavailable("no monitor answers"))
    with failures.attempt(SLOT, KEY), pytest.raises(errors.Unavailable):
        failures.require_none(SLOT, KEY)
    failures.require_none(SLOT, KEY)


def test_a_refusal_is_not_remembered() -> None:
    failures = RecentFailures(15)
    _fail(failures, errors.Unauthenticated("wrong key"))
    failures.require_none(SLOT, KEY)
