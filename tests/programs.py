"""The programs that the driver runs, read from its source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import rbdcsi
from rbdcsi.model import filesystems

_HOST = Path(rbdcsi.__file__).parent / "host"  # no other package runs commands
_WORD = re.compile(r"[a-z][\w.-]*")
_OTHER_TUPLES = {"directory", "krbd"}  # kinds of paths, and mappers


def of_the_driver() -> set[str]:
    """Return the names of all programs: the first words of the tuples that are commands."""
    trees = [ast.parse(path.read_text()) for path in _HOST.rglob("*.py")]
    names = {name for tree in trees for name in _first_words(tree)}
    return {name for name in names if _WORD.fullmatch(name)} - _OTHER_TUPLES


def _first_words(tree: ast.Module) -> Iterator[str]:
    constants = {
        target.id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple) and len(node.elts) > 1:
            first = node.elts[0]
            if isinstance(first, ast.Name):
                first = constants.get(first.id, first)
            yield from _texts(first)


def _texts(word: ast.expr) -> Iterator[str]:
    """Yield the text of a string, or of one like f"mkfs.{fs_type}" for each filesystem."""
    if isinstance(word, ast.Constant) and isinstance(word.value, str):
        yield word.value
    elif isinstance(word, ast.JoinedStr):
        for fs_type in filesystems.TABLE:
            yield "".join(_filled_in(part, fs_type) for part in word.values)


def _filled_in(part: ast.expr, fs_type: str) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    is_type = isinstance(part, ast.FormattedValue) and ast.unparse(part.value) == "fs_type"
    return fs_type if is_type else "\0"  # which no program's name has
