"""Messages that the guides quote are those of the driver."""

import re
from collections.abc import Iterator

import pytest

from tests.docs.documents import ROOT, SITE
from tools.reference import messages

TROUBLESHOOTING = ROOT / "docs/how-to/troubleshooting.md"
MESSAGES = tuple(message.text for message in messages.all_messages())
FILLED_IN = re.compile(r"…|\.\.\.|'[\w-]+'|\bv1:main:\S+|\bkubernetes/\w+|\bext4\b|\bxfs\b")


def quoted() -> Iterator[str]:
    """Yield the headings of the page by messages, and the quotations of all pages."""
    yield from re.findall(r"^### (.*)$", TROUBLESHOOTING.read_text(), re.MULTILINE)
    for page in SITE:
        for lines in re.findall(r"(?:^> .*\n)+", page.read_text(), re.MULTILINE):
            yield " ".join(line.removeprefix("> ") for line in lines.splitlines())


@pytest.mark.parametrize("text", list(quoted()))
def test_quoted_message_is_one_of_the_driver(text: str) -> None:
    parts = [part.strip(" :;,()") for part in FILLED_IN.split(text)]
    fixed = [part for part in parts if len(part.split()) > 1]
    assert fixed, f"nothing but what is filled in: {text}"
    assert any(all(part in message for part in fixed) for message in MESSAGES), (
        f"no message of docs/reference/errors.md reads {text!r}: follow the one that was changed"
    )
