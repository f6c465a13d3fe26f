"""The docs site's pages: everything that the code has is on one, formulas are drawn without scripts, and links lead to what is there."""

import re
from pathlib import Path

import pytest

from kp.commands.application import app, study_commands
from kp.config.knobs import all_knobs
from scripts.docs_site.columns import declared_tables, meaning
from scripts.docs_site.command_pages import command_pages, help_text
from scripts.docs_site.formulas import with_mathml
from scripts.docs_site.knob_pages import knob_pages
from scripts.docs_site.links import site_path, with_site_links
from scripts.docs_site.navigation import as_toml, navigation
from scripts.docs_site.pages import Page
from scripts.docs_site.table_pages import documented_tables, table_pages

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def commands() -> dict[str, Page]:
    return {page.path: page for page in command_pages()}


@pytest.fixture(scope="module")
def tables() -> dict[str, Page]:
    return {page.path: page for page in table_pages()}


def test_knob_pages_have_every_knob_once_with_its_meaning_type_and_default() -> None:
    pages = {page.path: page.text for page in knob_pages()}
    for name, knob in all_knobs().items():
        page = pages[f"reference/knobs/{knob.section.split('.')[0] or 'study'}.md"]
        assert page.count(f"### {name} {{ #") == 1
        _, _, entry = page.partition(f"### {name} {{ #")
        entry = entry.partition("\n###")[0]
        assert knob.meaning
        assert knob.meaning.replace("<", "&lt;") in entry
        assert f"default `{knob.default_text}`" in entry
        assert f"[`{name}`]" in pages["reference/knobs/index.md"]


def test_command_pages_have_every_command_with_all_that_its_help_says(commands: dict[str, Page]) -> None:
    names = {path.removeprefix("reference/commands/").removesuffix(".md") for path in commands} - {"index"}
    assert names == set(app._subcommands)
    assert names >= set(study_commands)
    index = commands["reference/commands/index.md"].text
    for name in names:
        page = commands[f"reference/commands/{name}.md"].text
        assert help_text(name).rstrip() in page
        assert f"[`kp {name}`]({name}.md)" in index
    for below in ("categorise", "train", "dump", "evaluate", "benchmarks"):
        assert f"## kp bench {below}\n" in commands["reference/commands/bench.md"].text


def test_help_on_command_pages_fits_their_width_and_has_no_colours(commands: dict[str, Page]) -> None:
    for page in commands.values():
        assert "\x1b" not in page.text
        drawn = [line for line in page.text.splitlines() if line.startswith(("│", "╭", "╰"))]
        assert all(len(line) <= 80 for line in drawn)


def test_table_pages_say_what_every_column_of_every_table_means(tables: dict[str, Page]) -> None:
    documented = documented_tables()
    assert len(documented) > 40
    unexplained = [
        f"{name}.{column}" for name, (about, _) in documented.items() for column in about.schema.names if not meaning(about, column)
    ]
    assert unexplained == []
    for name, (about, places) in documented.items():
        text = tables[f"reference/tables/{name}.md"].text
        assert all(f"| `{column}` |" in text for column in about.schema.names)
        assert all(f"`{place.path}`" in text for place in places)


def test_table_pages_have_every_parquet_file_that_is_committed_under_results() -> None:
    places = {Path(place.path).name for _, found in documented_tables().values() for place in found}
    # the summary's columns follow from the study's knobs, and training rows have a file for each trial
    files = {path.name for path in (REPOSITORY / "results").rglob("*.parquet") if path.parent.name != "training_rows"}
    assert files
    assert files - places == {"summary.parquet"}


def test_columns_that_a_table_takes_over_mean_what_they_mean_there() -> None:
    named = {one.name: one for one in declared_tables()}
    assert meaning(named["HELD_OUT_ANSWERS"], "finish_reason") == meaning(named["ANSWERS"], "finish_reason") == "stop, newline, length"
    assert meaning(named["TRIALS"], "batch_size") == all_knobs()["training.batch_size"].meaning
    assert meaning(named["EFFECTS"], "n") == "facts"


def test_formulas_become_mathml_and_code_stays_as_it_is() -> None:
    text = with_mathml("with $x^2$ and `a $b$ c`\n\n$$\n\\frac{1}{2}\n$$\n\n```\necho $HOME $PATH\n```\n")
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in text
    assert 'display="block"' in text
    assert "<mfrac>" in text
    assert "`a $b$ c`" in text
    assert "echo $HOME $PATH" in text


def test_every_formula_of_the_docs_is_drawn() -> None:
    texts = [with_mathml(page.read_text(encoding="utf-8")) for page in (DOCS / "concepts").glob("*.md")]
    assert sum(text.count("<math") for text in texts) > 30
    assert not [text for text in texts if "$$" in text or "merror" in text or "\\frac" in text or ">&<" in text or "\\begin" in text]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("facts.md", "facts.md"),
        ("tutorials/start-here.md", "index.md"),
        ("../kp/config/study.py", "repository/kp/config/study.py.md"),
        ("../README.md#the-tree", "repository/readme.md#the-tree"),
        ("../results/quickstart/figures/packed_against_lost.png", "repository/results/quickstart/figures/packed_against_lost.png"),
        ("../.github/actions/kp-gate/action.yml", "repository/github/actions/kp-gate/action.yml.md"),
        ("../ray_jobs", "repository/ray_jobs/index.md"),
        ("https://arxiv.org/abs/2502.14502", "https://arxiv.org/abs/2502.14502"),
    ],
)
def test_links_lead_to_the_page_or_copy_that_the_site_has(target: str, expected: str) -> None:
    found: list[str] = []
    assert with_site_links(f"[a]({target}) `[b](c.md)`", "docs/models.md", REPOSITORY, found.append) == f"[a]({expected}) `[b](c.md)`"
    assert len(found) == (0 if "://" in target else 1)


def test_links_out_of_the_repository_are_refused() -> None:
    with pytest.raises(ValueError, match=r"docs/models\.md: the link to \.\./\.\./secret\.txt leads out of the repository"):
        with_site_links("[a](../../secret.txt)", "docs/models.md", REPOSITORY, print)


def test_navigation_has_every_page_of_docs_once() -> None:
    pages = {site_path(path.relative_to(REPOSITORY).as_posix(), REPOSITORY): "title" for path in DOCS.rglob("*.md")}
    written = as_toml(navigation(pages, {}))
    assert "index.md" in pages
    assert {path: written.count(f'"{path}"') for path in pages} == dict.fromkeys(pages, 1)


def test_figures_of_the_questions_stand_in_the_files_that_their_answers_link_to() -> None:
    page = DOCS / "concepts" / "questions.md"
    checked = 0
    for answer in page.read_text(encoding="utf-8").split("\n## ")[1:]:
        linked = [(page.parent / target).resolve() for target in re.findall(r"\]\((\.\./\.\./[^)#]+)\)", answer)]
        texts = "\n".join(file.read_text(encoding="utf-8") for file in linked)
        figures = re.findall(r"`([+−]?\d[^`]*)`", answer)
        assert [figure for figure in figures if figure not in texts] == [], answer.partition("\n")[0]
        checked += len(figures)
    assert checked > 20
