"""The hand-written stubs of rados and rbd agree with the modules that are installed.

The bindings are compiled: signatures come from their docstrings, which Cython writes.
"""

import ast
import gc
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import rados
import rbd

MODULES = [rados, rbd]
NAMES = ["rados", "rbd"]
TYPINGS = Path(__file__).parents[2] / "typings"

Parameters = list[tuple[str, bool]]  # each one's name, and whether it may be left out


def _stub(module: ModuleType) -> ast.Module:
    return ast.parse((TYPINGS / f"{module.__name__}.pyi").read_text())


def _public(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield what is declared for use, leaving out names for the type checker (`_Snap`)."""
    for statement in body:
        name = getattr(statement, "name", None)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
        if name and (name.startswith("__") or not name.startswith("_")):
            yield name, statement


def _methods(module: ModuleType) -> list[tuple[type, ast.FunctionDef]]:
    return [
        (getattr(module, class_name), method)
        for class_name, declared in _public(_stub(module).body)
        if isinstance(declared, ast.ClassDef) and hasattr(module, class_name)
        for _, method in _public(declared.body)
        if isinstance(method, ast.FunctionDef)
    ]


def _stub_parameters(method: ast.FunctionDef) -> Parameters:
    given = method.args.args[1:]
    required = len(given) - len(method.args.defaults)
    return [(each.arg, position >= required) for position, each in enumerate(given)]


def _installed_parameters(owner: type, name: str) -> Parameters | None:
    """Return what the docstrings say; None where the binding says nothing."""
    texts = [_documented(getattr(owner, name)) or ""]
    if name == "__init__":
        texts.insert(0, owner.__doc__ or "")  # Cython writes the constructor's signature here
    for text in texts:
        if found := re.match(rf"\s*\w+(\.{name})?\((?P<parameters>.*)\)( -> .*)?$", text, re.M):
            parameters = [part for part in _split(found["parameters"]) if part not in ("self", "")]
            return None if "*args" in parameters else [_parameter(part) for part in parameters]
    return None


def _documented(called: object) -> str | None:
    """Return the docstring, or that of the method inside rbd's `requires_not_closed` wrapper."""
    if text := inspect.getdoc(called):
        return text
    reachable = [inner for scope in gc.get_referents(called) for inner in gc.get_referents(scope)]
    return next((text for inner in reachable if callable(inner) and (text := inner.__doc__)), None)


def _split(parameters: str) -> list[str]:
    """Split at the commas that are outside every bracket."""
    outside = re.sub(r"\[(?:[^][]|\[(?:[^][]|\[[^][]*\])*\])*\]", "", parameters)
    return [part.strip() for part in outside.split(",")]


def _parameter(text: str) -> tuple[str, bool]:
    name, *_ = re.split(r"[:=]", text)
    return name.split()[-1], "=" in text


def _difference(owner: type, method: ast.FunctionDef) -> str | None:
    if not hasattr(owner, method.name):
        return f"{owner.__name__}.{method.name}: no such method"
    declared = _stub_parameters(method)
    installed = _installed_parameters(owner, method.name) or declared
    # A newer binding may take more parameters, as long as they can be left out.
    added = installed[len(declared) :]
    if installed[: len(declared)] == declared and all(optional for _, optional in added):
        return None
    return f"{owner.__name__}.{method.name}: the stub has {declared}, the module {installed}"


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_every_name_in_the_stub_exists_in_the_module(module: ModuleType) -> None:
    declared = [name for name, _ in _public(_stub(module).body)]
    assert [name for name in declared if not hasattr(module, name)] == []


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_every_exception_of_the_module_is_in_the_stub_with_its_base(module: ModuleType) -> None:
    installed = {
        name: each.__mro__[1].__name__
        for name, each in vars(module).items()
        if isinstance(each, type) and issubclass(each, module.Error)
    }
    declared = {
        name: ast.unparse(each.bases[0])
        for name, each in _public(_stub(module).body)
        if isinstance(each, ast.ClassDef) and name in installed
    }
    assert declared == installed


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_every_method_exists_and_takes_the_parameters_of_the_stub(module: ModuleType) -> None:
    methods = _methods(module)
    assert [wrong for owner, method in methods if (wrong := _difference(owner, method))] == []


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_the_installed_signatures_can_be_read_nearly_all(module: ModuleType) -> None:
    read = [_installed_parameters(owner, method.name) for owner, method in _methods(module)]
    assert read.count(None) < 0.05 * len(read)
