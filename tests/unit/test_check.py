"""The check that has to pass before a change lands: what it does with tests that fail."""

import pytest

from tools import check


def _saying(text: str, code: int) -> tuple[str, ...]:
    return ("sh", "-c", f"echo '{text}'; exit {code}")


PASSES = _saying("== 3 passed in 1.00s ==", 0)
FAILS = _saying("== 1 failed, 2 passed in 1.00s ==", 1)


def test_few_tests_that_failed_are_run_once_more() -> None:
    outcome = check.run(check.Part("tests", FAILS, 1, again=PASSES))
    assert outcome.passed
    said = str(outcome)
    assert "1 failed, 2 passed" in said
    assert "once more" in said
    assert said.endswith("3 passed in 1.00s")


@pytest.mark.parametrize(
    ("command", "again"),
    [
        (FAILS, FAILS),
        (FAILS, ()),
        (_saying("== 4 failed, 9 passed, 2 errors in 1.00s ==", 1), PASSES),
        (_saying("no pytest at all", 2), PASSES),
    ],
    ids=["fails again", "is not repeated", "fails in number", "does not test"],
)
def test_otherwise_the_part_fails(command: tuple[str, ...], again: tuple[str, ...]) -> None:
    assert not check.run(check.Part("tests", command, 1, again=again)).passed
