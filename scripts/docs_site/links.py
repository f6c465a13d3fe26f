"""Links of pages: into docs/ they stay, into the rest of the repository they lead to a page or a copy that the site has of that file."""

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

_LINK = re.compile(r"(?P<code>^```.*?^```[^\n]*$|`[^`\n]+`)|(?P<before>\[[^\]]*\]\()(?P<target>[^)\s]+)(?=\))", re.DOTALL | re.MULTILINE)
START = "docs/tutorials/start-here.md"
SHOWN = {".py", ".toml", ".yaml", ".yml", ".csv", ".txt", ".jsonl", ""}
"""Endings of files that are shown as a page of code; "" for Dockerfile, Makefile, LICENSE and NOTICE."""
MOST_SHOWN = 60_000
"""Bytes above which a file is copied, not shown."""


def site_path(file: str, root: Path) -> str:
    """Where the site's sources have a file or folder of the repository; `file` is relative to its root, with slashes."""
    if file == START:
        return "index.md"
    inside = PurePosixPath(file)
    if inside.parts[:1] == ("docs",) and inside.suffix == ".md":
        return str(inside.relative_to("docs"))
    seen = PurePosixPath(*(part.removeprefix(".") for part in inside.parts))  # zensical passes over what begins with a dot
    kept = PurePosixPath("repository") / (seen.with_name("readme.md") if inside.name == "README.md" else seen)
    if (root / file).is_dir():
        return str(kept / "index.md")
    return f"{kept}.md" if is_shown(root / file) else str(kept)


def is_shown(file: Path) -> bool:
    """Whether a file becomes a page of code."""
    return file.is_file() and file.suffix in SHOWN and file.stat().st_size <= MOST_SHOWN


def with_site_links(text: str, file: str, root: Path, found: Callable[[str], None]) -> str:
    """The Markdown of `file` with its links as the site has them; `found` is told every file and folder of the repository linked to."""
    here = PurePosixPath(site_path(file, root)).parent

    def replaced(match: re.Match[str]) -> str:
        target = match["target"]
        if target is None or "://" in target or target.startswith(("#", "mailto:")):
            return match[0]
        name, hash_sign, anchor = target.partition("#")
        linked = os.path.normpath(PurePosixPath(file).parent / name).replace(os.sep, "/")
        if linked.startswith(".."):
            raise ValueError(f"{file}: the link to {target} leads out of the repository")
        found(linked)
        return f"{match['before']}{os.path.relpath(site_path(linked, root), here).replace(os.sep, '/')}{hash_sign}{anchor}"

    return _LINK.sub(replaced, text)
