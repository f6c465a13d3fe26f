"""The docs site as zensical builds it: strictly, with nothing that a browser would fetch from elsewhere, and readable on a phone."""

import functools
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scripts.docs_site.sources import HERE
from tests.browser import CHROMIUM, Page, browser_page

REPOSITORY = Path(__file__).parents[2]
_FETCHED = re.compile(r"<(?:link|script|img|iframe|source)\b[^>]*?\b(?:href|src)=\"?([^\"\s>]+)")
_IN_CSS = re.compile(r"url\(([^)]+)\)|@import\s+[\"']([^\"']+)")


def zensical(config: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=config.parent)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "scripts.docs_site", "--out", str(folder / "site"), "--work", str(folder / "work")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Of a server of the site: a page from a file would have no search."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(SimpleHTTPRequestHandler, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def test_site_builds_strictly_and_has_a_page_for_every_page_of_docs(site: Path) -> None:
    docs = {path.relative_to(REPOSITORY / "docs") for path in (REPOSITORY / "docs").rglob("*.md")}
    built = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")}
    assert docs - built == {Path("tutorials/start-here.md")}  # which is index.html
    assert (site / "reference" / "knobs" / "search.html").is_file()


def test_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    for file in site.rglob("*.html"):
        assert [
            target for target in _FETCHED.findall(file.read_text(encoding="utf-8")) if target.startswith(("http:", "https:", "//"))
        ] == []
    for file in site.rglob("*.css"):
        targets = ["".join(found).strip("\"'") for found in _IN_CSS.findall(file.read_text(encoding="utf-8"))]
        assert [target for target in targets if target.startswith(("http:", "https:", "//"))] == []


@pytest.mark.parametrize("text", ["[gone](gone.md)", "[a heading](index.md#gone)"])
def test_site_with_a_link_to_nothing_is_not_built(tmp_path: Path, text: str) -> None:
    (tmp_path / "zensical.toml").write_text((HERE / "zensical.toml").read_text().replace('extra_css = ["site.css"]', ""))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Title\n\n{text}\n")
    done = zensical(tmp_path / "zensical.toml")
    assert done.returncode != 0
    assert "does not exist" in done.stdout + done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize(
    "name", ["index", "concepts/effects", "reference/tables/trials", "reference/knobs/search", "reference/commands/study", "cluster"]
)
def test_pages_are_no_wider_than_the_window_and_ask_only_their_own_server(address: str, page: Page, name: str, width: int) -> None:
    page.complaints.clear()
    page.requests.clear()
    page.open(f"{address}/{name}.html", width)
    assert page.value("document.documentElement.scrollWidth") <= width
    assert [request for request in page.requests if not request.startswith((address, "data:", f"blob:{address}"))] == []
    assert page.complaints == []
    assert page.value("[...document.querySelectorAll('math')].every(one => one.getBoundingClientRect().height > 5)")
