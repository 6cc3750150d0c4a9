"""The site builds without a warning, its links lead somewhere, and it fetches nothing remote."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.documents import PAGES, ROOT, SITE

_TRIES = 5  # zensical also watches the files that it builds, and fails if that ends too early


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site in a directory of its own."""
    project = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "zensical.toml", project)
    shutil.copytree(ROOT / "docs", project / "docs")
    program = Path(sys.executable).parent / "zensical"
    for _ in range(_TRIES):
        done = subprocess.run(
            [program, "build", "--strict"], cwd=project, capture_output=True, text=True, check=False
        )
        if "Watcher disconnected" not in done.stderr:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    return project / "site"


def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    listed = set(re.findall(r"'([\w/-]+\.md)'", str(navigation)))
    pages = {str(path.relative_to(ROOT / "docs")) for path in SITE}
    assert listed == pages
    for page in pages:
        assert (site / page).with_suffix(".html").exists()


def test_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/[\w/-]+\.md)\)", (ROOT / "README.md").read_text()))
    start = ROOT / "docs/index.md"  # the README of the site
    assert linked == {str(path.relative_to(ROOT)) for path in SITE if path != start}


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    fetched = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]+")
    for page in site.rglob("*.html"):
        assert fetched.findall(page.read_text()) == [], page


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_a_page_links_to_exist(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    own = "https://github.com/rbdcsi/rbdcsi/"
    for target in targets:
        if target.startswith(own):
            path = re.sub(r"^(?:blob|tree)/main/", "", target.removeprefix(own))
            assert path.startswith("security/") or (ROOT / path).exists(), target
        elif not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_the_tree_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:rbdcsi|tests|e2e|tools|deploy|bench)/[\w./-]*)", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []
