"""Who may import what, where import-linter has no words for it (its layers: pyproject.toml)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "rbdcsi"

PLACES = {
    "subprocess": ("host/command.py",),
    "rados": ("ceph/",),
    "rbd": ("ceph/",),
    "pyudev": ("host/",),
    "grpc": ("services/", "server/"),
    "google.protobuf": ("services/", "server/"),
    "rbdcsi.api": ("services/", "server/"),
}


def _sources() -> dict[str, str]:
    """Return the project's source texts by path, without the generated ones."""
    paths = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py"))]
    return {str(path): (PACKAGE / path).read_text() for path in paths if path.parts[0] != "api"}


def _imports(source: str) -> Iterator[str]:
    """Yield every module that the text imports, anywhere in it; relative ones are not in use."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import: write the module's full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _belongs(imported: str, package: str) -> bool:
    return f"{imported}.".startswith(f"{package}.")


@pytest.mark.parametrize(("package", "places"), PLACES.items())
def test_package_is_imported_from_its_own_place_only(package: str, places: tuple[str, ...]) -> None:
    strangers = [
        path
        for path, source in _sources().items()
        if not path.startswith(places) and any(_belongs(name, package) for name in _imports(source))
    ]
    assert strangers == [], f"{package} may be imported in {' and '.join(places)} only"
