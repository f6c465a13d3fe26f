"""What the README, CONTRIBUTING and docs/ name exists: files, headings, commands, flags, fields of a study, make targets.

Prose is not run, so it goes stale without a sign; whatever in it can be looked up is looked up here.
"""

import importlib.util
import io
import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from kp.bench.__main__ import BENCHMARKS
from kp.bench.arguments import parse_options
from kp.bench.options import BenchmarksOptions, CategoriseOptions, DumpOptions, EvaluateOptions, TrainOptions
from kp.cli import main
from kp.config.study import StudyConfig, load_study

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
SITE_PAGES = sorted((REPOSITORY / "docs").glob("*/*.md"))  # the site's own, to which it has a navigation
DOCS = [README, REPOSITORY / "CONTRIBUTING.md", *PAGES, *SITE_PAGES]
README_LINES = 180
OPTIONS: dict[str, type] = {
    "benchmarks": BenchmarksOptions,
    "categorise": CategoriseOptions,
    "dump": DumpOptions,
    "evaluate": EvaluateOptions,
    "train": TrainOptions,
}
FILE_TYPES = {"csv", "html", "json", "jsonl", "md", "parquet", "png", "py", "toml", "yaml"}

_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"^ {4}(\S.*)$", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_PATH = re.compile(r"(?<![\w./-])(?:kp|docs|ray_jobs|results|scripts|tests)/[\w./-]*")
_FIELD = re.compile(r"([a-z_]+(?:\.[a-z_]+)+)(?: ?=.*)?")
_NAME_IN_CODE = re.compile(r"_?[A-Z][A-Za-z]*[a-z_][A-Za-z_]*|_?[A-Z_]{4,}")

every_doc = pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.name)


def prose(doc: Path) -> str:
    """The text without its blocks of code."""
    return _INDENTED.sub("", _FENCE.sub("", doc.read_text(encoding="utf-8")))


def spans(doc: Path) -> list[str]:
    """What stands between backticks in the prose."""
    return _SPAN.findall(prose(doc))


def code_lines(doc: Path) -> list[str]:
    """Every line of the blocks of code, continued lines joined."""
    text = doc.read_text(encoding="utf-8")
    blocks = [*_FENCE.findall(text), *_INDENTED.findall(_FENCE.sub("", text))]
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def anchors(doc: Path) -> set[str]:
    """The headings as GitHub names them in links."""
    slugs = [re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-") for title in _HEADING.findall(prose(doc))]
    repeats: Counter[str] = Counter()
    found = set()
    for slug in slugs:
        found.add(f"{slug}-{repeats[slug]}" if repeats[slug] else slug)
        repeats[slug] += 1
    return found


def links(doc: Path) -> list[tuple[Path, str]]:
    """Target file and anchor of every link that stays in the repository."""
    inside = [target for target in _LINK.findall(_SPAN.sub("", prose(doc))) if "://" not in target]
    parts = [target.partition("#") for target in inside]
    return [((doc.parent / file).resolve() if file else doc, anchor) for file, _, anchor in parts]


def kp_calls(doc: Path) -> Iterator[list[str]]:
    """The arguments of every call of kp: `kp ...`, and what ray_jobs' entry points and `python -m kp.bench` make of theirs."""
    for line in [*code_lines(doc), *spans(doc)]:
        if re.match(r"kp |(?:.* )?python (?:ray_jobs/|-m kp\.bench )", line):
            words = shlex.split(line, comments=True)
            if words[0] == "kp":
                yield words[1:]
            else:
                script, *rest = words[words.index("python") + 1 :]
                yield ["bench", *rest[1:]] if script == "-m" else [Path(script).stem, *rest]


@cache
def flags_of(command: str) -> frozenset[str]:
    """The flags that a command's own help names; empty where there is no such command, for which the parser shows its general help."""
    printed = io.StringIO()
    with redirect_stdout(printed), pytest.raises(SystemExit):
        main([command, "--help"])
    text = printed.getvalue()
    own = re.match(rf"usage: \S+ {re.escape(command)} ", text)
    return frozenset(re.findall(r"--[a-z][a-z-]*", text)) if own else frozenset()


def field_exists(dotted: str) -> bool:
    """Whether StudyConfig has this field, inside lists of sections too."""
    kind: Any = StudyConfig
    for name in dotted.split("."):
        inner = next((part for part in (kind, *get_args(kind)) if isinstance(part, type) and issubclass(part, BaseModel)), None)
        if inner is None or name not in inner.model_fields:
            return False
        kind = inner.model_fields[name].annotation
    return True


def fields_named(doc: Path) -> list[str]:
    """The dotted fields between backticks, recognised by the section that they begin with."""
    found = [match[1] for match in map(_FIELD.fullmatch, spans(doc)) if match]
    return [name for name in found if name.split(".")[0] in StudyConfig.model_fields and name.split(".")[-1] not in FILE_TYPES]


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_readme_links_to_every_page_of_docs() -> None:
    assert len(PAGES) >= 7
    assert set(PAGES) <= {file for file, _ in links(README)}


@every_doc
def test_links_lead_to_files_and_headings_that_exist(doc: Path) -> None:
    found = links(doc)
    broken = [f"{file}#{anchor}" for file, anchor in found if not file.exists() or (anchor and anchor not in anchors(file))]
    assert found
    assert broken == []


@every_doc
def test_paths_named_exist(doc: Path) -> None:
    named = {path.rstrip(".") for path in _PATH.findall(doc.read_text(encoding="utf-8"))}
    real = {path for path in named if not re.search(r"/[A-Z]+(?:/|$)", path)}  # results/STUDY/ stands for any
    assert sorted(path for path in real if not (REPOSITORY / path).exists()) == []


def test_readme_tree_names_every_room_once() -> None:
    _, _, after = README.read_text(encoding="utf-8").partition("## The tree")
    tree = _FENCE.findall(after)[0]
    rooms = sorted(folder.parent.name for folder in (REPOSITORY / "kp").glob("*/__init__.py"))
    assert sorted(re.findall(r"^kp/(\w+)/", tree, re.MULTILINE)) == rooms


@every_doc
def test_commands_and_flags_of_kp_exist(doc: Path) -> None:
    unknown = []
    for command, *arguments in kp_calls(doc):
        flags = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        if command == "bench" and arguments:
            unknown += [] if arguments[0] in BENCHMARKS else [f"bench {arguments[0]}"]
        elif command.startswith("--"):
            unknown += sorted({command} - {"--help"})
        else:
            known = flags_of(command)
            unknown += [f"{command} {flag}" for flag in sorted(flags - known)] if known else [command]
    assert unknown == []


def test_commands_are_found_in_the_docs_and_missed_by_the_parser_where_there_are_none() -> None:
    named = {call[0] for doc in DOCS for call in kp_calls(doc)}
    assert {"study", "facts", "categorise", "trials", "audit", "noise", "bench"} <= named
    assert "--dry-run" in flags_of("study")
    assert not flags_of("capacity-of-all")


@every_doc
def test_benchmark_command_lines_parse(doc: Path) -> None:
    for command, *arguments in kp_calls(doc):
        if command == "bench" and arguments:
            parse_options(OPTIONS[arguments[0]], "kp bench", arguments[1:])


@every_doc
def test_studies_on_command_lines_load_with_their_overrides(doc: Path) -> None:
    for command, *arguments in kp_calls(doc):
        files = [word for word in arguments if word.endswith(".toml") and (REPOSITORY / word).is_file()]
        overrides = [word for word in arguments if not word.startswith("-") and "=" in word]
        if command != "bench" and files:
            assert load_study(REPOSITORY / files[0], overrides).name


@every_doc
def test_study_fields_named_exist(doc: Path) -> None:
    assert [name for name in fields_named(doc) if not field_exists(name)] == []


def test_study_fields_are_found_in_the_docs_and_looked_up_in_lists_too() -> None:
    assert len({name for doc in DOCS for name in fields_named(doc)}) > 40
    assert field_exists("search.arms.highly_known")
    assert not field_exists("search.arms.unheard_of")
    assert not field_exists("facts.count.more")


@every_doc
def test_make_targets_named_exist(doc: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {word for line in [*code_lines(doc), *spans(doc)] for word in re.findall(r"^make ([a-z][a-z-]*)", line)}
    assert sorted(named - targets) == []


@every_doc
def test_modules_and_extras_named_exist(doc: Path) -> None:
    text = doc.read_text(encoding="utf-8")
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [name for name in re.findall(r"python -m (kp[\w.]*)", text) if importlib.util.find_spec(name) is None] == []
    assert [name for name in re.findall(r"'kp-lora\[(\w+)\]'", text) if name not in extras] == []


@pytest.mark.parametrize("doc", [REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "docs" / "adding-things.md"], ids=lambda doc: doc.name)
def test_classes_and_constants_named_stand_in_the_code(doc: Path) -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for room in ("kp", "tests") for file in (REPOSITORY / room).rglob("*.py"))
    words = set(re.findall(r"\w+", code))
    named = {match[0] for match in map(_NAME_IN_CODE.match, spans(doc)) if match}
    assert named
    assert sorted(named - words - {"StrEnum"}) == []


def test_every_test_that_the_page_of_faults_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (REPOSITORY / "docs" / "faults.md").read_text(encoding="utf-8")))
    written = {
        name
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert named
    assert named - written == set()
