"""The documents and what is in them: blocks of code by their language, commands, links."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SITE = sorted((ROOT / "docs").rglob("*.md"))
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    ROOT / "deploy/helm/rbdcsi/README.md",
    *SITE,
)


class Block(NamedTuple):
    """A fenced block of code."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


class Command(NamedTuple):
    """A line that a reader types, without its prompt."""

    block: Block
    text: str

    def __str__(self) -> str:
        return f"{self.block}: {self.text[:60]}"


def blocks(language: str | None = None) -> list[Block]:
    """Return the blocks of all pages, or those in one language."""
    return [
        block for page in PAGES for block in _blocks(page) if language in (None, block.language)
    ]


def commands() -> list[Command]:
    """Return the lines with a prompt, `# ` or `$ `, of all console blocks."""
    return [
        Command(block, re.split(r"\s{2,}", line[2:].strip())[0])  # behind two blanks: a remark
        for block in blocks("console")
        for line in re.sub(r" \\\n *", " ", block.text).splitlines()  # whole lines
        if line.startswith(("# ", "$ "))
    ]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
        body = "".join(line.removeprefix(match[1]) for line in match[3].splitlines(keepends=True))
        yield Block(page, text.count("\n", 0, match.start()) + 1, match[2], body)
