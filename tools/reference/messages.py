"""Every message that the driver can answer with, read from its source.

Messages are calls of the errors' classes with a text, and the mistakes that config collects. What a
message fills in is shown as `<name>` where the source gives it a name, and as `…` otherwise.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from tools.reference import markdown, sources

_AT_START = {"ConfigError": "exit code 2", "ValueError": "exit code 2"}
# Functions that return why a host cannot map an image.
_REASONS = ("unsupported", "unusable", "_unsupported_features")
_MISTAKE = "mistakes.append"  # of a configuration file
_LONGEST_NAME = 24
_FEWEST_WORDS = 2  # a message of fewer only passes another one on
_WORD = re.compile(r"[A-Za-z]{2,}")
_FILLED_IN = re.compile(r"<[^<>]*>")
_QUOTE = "'"  # in place of backticks, which would end the code of the table's cell

_CODES = {
    "INVALID_ARGUMENT": "Correct the StorageClass, claim or PersistentVolume.",
    "UNAUTHENTICATED": "Correct the user or key.",
    "PERMISSION_DENIED": "Give the Ceph user its [permissions](ceph-permissions.md).",
    "NOT_FOUND": "Nothing, if the object was deleted on purpose.",
    "ALREADY_EXISTS": "Remove the other object, or ask for the same properties.",
    "FAILED_PRECONDITION": "Do what the message names; the sidecar repeats the call.",
    "OUT_OF_RANGE": "Ask for a size that the message allows.",
    "RESOURCE_EXHAUSTED": "Free space, raise the quota, or use another node.",
    "ABORTED": "Wait: another call is at work, and the sidecar repeats this one.",
    "UNAVAILABLE": "Look at `ceph status` and the network; the sidecar repeats the call.",
    "DEADLINE_EXCEEDED": "The same; work that was done is kept.",
    "INTERNAL": "Look at the step and the object that the message names, and at the driver's log.",
}


class Message(NamedTuple):
    """A message, where it belongs, and the gRPC code or exit code that comes with it."""

    chapter: str
    code: str
    text: str


def codes() -> str:
    """Return the table of the gRPC codes."""
    rows = ((markdown.code(code), meaning) for code, meaning in _CODES.items())
    return markdown.table(("code", "what to do"), rows)


def messages() -> str:
    """Return a chapter with a table for each stage."""
    chapters = []
    for chapter, of_chapter in groupby(sorted(set(all_messages())), lambda m: m.chapter):
        rows = ((markdown.code(each.text), each.code) for each in of_chapter)
        chapters.append(f"## {chapter}\n\n{markdown.table(('message', 'code'), rows)}")
    return "\n".join(chapters)


def all_messages() -> Iterator[Message]:
    """Yield every message of the source.

    Raises:
        LookupError: a file has messages and no chapter in sources.py.
    """
    modules = [(chapter, path, ast.parse(path.read_text())) for chapter, path in sources.files()]
    codes = _codes([tree for _, _, tree in modules])
    for chapter, path, tree in modules:
        for kind, text in _texts(tree):
            at_start = kind in _AT_START and chapter == sources.AT_START
            code = _AT_START[kind] if at_start else codes.get(kind)
            if code is None or len(_WORD.findall(_FILLED_IN.sub("", text))) < _FEWEST_WORDS:
                continue
            if not chapter:
                raise LookupError(f"{path}: name its chapter in {sources.__file__}")
            yield Message(chapter, code, text)
    for error, step in sources.CEPH_NEXT_STEPS.items():
        text = f"<operation>: Ceph said …; {step}".replace("`", _QUOTE)
        yield Message("Ceph", error.code, text)


def _codes(trees: Sequence[ast.Module]) -> dict[str, str]:
    """Return the gRPC code of each class of error, by the class's name."""
    codes = {
        name: kind.code
        for name, kind in vars(sources.ERRORS).items()
        if isinstance(kind, type) and issubclass(kind, sources.ERRORS.RbdCsiError)
    }
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ClassDef):
            for base in map(_last_name, node.bases):
                if base in codes:
                    codes.setdefault(node.name, codes[base])
    return codes | dict.fromkeys(_REASONS, "FAILED_PRECONDITION")


def _texts(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield each text with the error's class, or the function that returns it as a reason."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=function, args=[text]) if ast.unparse(function).endswith(_MISTAKE):
                yield "ConfigError", _text(text)
            case ast.Call(func=function, args=[text, *_]):
                yield _last_name(function), _text(text)
            case ast.ClassDef(name=name):
                yield from ((name, _text(call.args[0])) for call in _calls_of_super(node))
            case ast.FunctionDef(name=name) if name in _REASONS:
                returns = [each for each in ast.walk(node) if isinstance(each, ast.Return)]
                yield from ((name, _text(each.value)) for each in returns if each.value)
            case _:
                pass


def _calls_of_super(node: ast.ClassDef) -> list[ast.Call]:
    calls = [each for each in ast.walk(node) if isinstance(each, ast.Call) and each.args]
    return [call for call in calls if ast.unparse(call.func) == "super().__init__"]


def _text(node: ast.expr) -> str:
    """Return the text that an expression gives, with what is filled in by its name."""
    match node:
        case ast.Constant(value=str(text)):
            return text.replace("`", _QUOTE)
        case ast.JoinedStr(values=values):
            return "".join(_text(value) for value in values)
        case ast.FormattedValue(value=value):
            return _name(value)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return _text(left) + _text(right)
        case ast.Call(func=ast.Attribute(value=ast.JoinedStr() as value, attr="rstrip")):
            return _text(value)
        case _:
            return "…"


def _name(value: ast.expr) -> str:
    text = ast.unparse(value).removesuffix(".value").rpartition(".")[2].lstrip("_")
    return f"<{text}>" if text.isidentifier() and len(text) < _LONGEST_NAME else "…"


def _last_name(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]
