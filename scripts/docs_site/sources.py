"""The site's sources: every page of docs/, every page made from code, and whatever of the repository these link to."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.docs_site.command_pages import command_pages
from scripts.docs_site.formulas import with_mathml
from scripts.docs_site.knob_pages import knob_pages
from scripts.docs_site.links import is_shown, site_path, with_site_links
from scripts.docs_site.navigation import as_toml, navigation
from scripts.docs_site.pages import Page, fenced
from scripts.docs_site.table_pages import table_pages

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
NAV = "nav = []"
LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".csv": "text", ".jsonl": "json"}
FIRST = ("README.md", "CONTRIBUTING.md", "results/README.md")
"""Pages outside docs/ that the navigation names."""
_TITLE = re.compile(r"^# +(.+?) *$", re.MULTILINE)


def write_sources(folder: Path) -> Path:
    """Write the site's sources and its zensical.toml into a new folder; returns the path of the latter."""
    shutil.rmtree(folder, ignore_errors=True)
    sources = folder / "docs"
    generated = {"Commands": list(command_pages()), "Knobs": list(knob_pages()), "Tables": list(table_pages())}
    pages = {page.path: page for made in generated.values() for page in made}
    copied: set[str] = set()
    waiting = [*sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")), *FIRST]
    while waiting:
        file = waiting.pop()
        if site_path(file, ROOT) in pages or file in copied:
            continue
        page = _page(file, waiting)
        if page is None:
            copied.add(file)
        else:
            pages[page.path] = page
    for page in pages.values():
        target = sources / page.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page.text, encoding="utf-8")
    for file in copied:
        target = sources / site_path(file, ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, target)
    shutil.copyfile(HERE / "site.css", sources / "site.css")
    return _write_config(folder, pages, generated)


def _page(file: str, waiting: list[str]) -> Page | None:
    """The page that the site has of a file or folder, whose own links are added to `waiting`; None for a file that is copied as it is."""
    path = ROOT / file
    where = site_path(file, ROOT)
    if path.is_dir():
        return Page(where, file, f"# {file}\n\n" + "\n".join(_listing(path)) + "\n")
    if path.suffix == ".md":
        text = path.read_text(encoding="utf-8")
        title = _TITLE.search(text)
        return Page(where, title[1].replace("`", "") if title else file, with_mathml(with_site_links(text, file, ROOT, waiting.append)))
    if is_shown(path):
        return Page(where, file, f"# {file}\n\n" + fenced(path.read_text(encoding="utf-8"), LANGUAGES.get(path.suffix, "text")))
    if not path.is_file():
        raise FileNotFoundError(f"a page links to {file}, which is not there")
    return None


def _listing(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if not path.name.startswith((".", "__")):
            yield f"- `{path.name}{'/' if path.is_dir() else ''}`"


def _write_config(folder: Path, pages: dict[str, Page], generated: dict[str, list[Page]]) -> Path:
    text = (HERE / "zensical.toml").read_text(encoding="utf-8")
    if NAV not in text:
        raise ValueError(f"zensical.toml: the line '{NAV}', which the navigation replaces, is missing")
    titles = {path: page.title for path, page in pages.items()}
    paths: dict[str, Sequence[str]] = {name: [page.path for page in made] for name, made in generated.items()}
    config = folder / "zensical.toml"
    config.write_text(text.replace(NAV, f"nav = {as_toml(navigation(titles, paths))}"), encoding="utf-8")
    return config
