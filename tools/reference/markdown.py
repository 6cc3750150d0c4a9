"""Tables of Markdown, and the blocks of a page that they are written into."""

from collections.abc import Iterable, Sequence


def filled(page: str, name: str, text: str) -> str:
    """Return the page with the text between the markers of a block.

    Args:
        page: a whole page.
        name: the block's name, as its markers have it.
        text: what the block shall hold.

    Raises:
        ValueError: the page has no block of that name.
    """
    begin, end = f"<!-- {name}: written by `make docs` -->\n", f"<!-- end of {name} -->\n"
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{text}\n{end}{after}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a cell's own `|` is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def code(text: str) -> str:
    """Return the text in the type of code; nothing for no text."""
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
