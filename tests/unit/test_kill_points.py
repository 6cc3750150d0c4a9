"""Some test kills the driver after each of its steps, and the random walk knows all of them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import rbdcsi
from e2e.walk import deaths

TESTS = Path(__file__).parents[1]
KILLING = ("kill_after", "KILL_AFTER", "dying")  # one of them is in each file with such a test
EXEMPT = {
    "group.retry": "Nothing is left of the attempt: a death is as one after group.reserve.",
    "node.retire": "It is the last step of a command.",
}


def _steps() -> Iterator[str]:
    """Yield the name of each step in the driver's source."""
    for file in Path(rbdcsi.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "steps.done":
                assert isinstance(node.args[0], ast.Constant), f"{file}: {ast.unparse(node)}"
                yield str(node.args[0].value)


def _killed_after() -> Iterator[str]:
    """Yield the words of tests that kill: names of steps are parameters of tests, or arguments."""
    for file in TESTS.rglob("*.py"):
        text = file.read_text()
        if TESTS / "unit" not in file.parents and any(word in text for word in KILLING):
            yield from _words(ast.parse(text))


def _words(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Compare(left=ast.Name("step")) | ast.Call(func=ast.Attribute(attr="count")):
            return  # it asks which step it is, or looks for the step in a log
        case ast.Constant(str(word)):
            yield word
        case _:
            pass
    for child in ast.iter_child_nodes(node):
        yield from _words(child)


def test_the_walk_knows_all_steps() -> None:
    assert deaths.steps() == sorted(set(_steps()))


def test_some_test_kills_the_driver_after_each_step() -> None:
    assert set(deaths.steps()) - set(_killed_after()) == set(EXEMPT)
