"""Studies on facts from elsewhere, by the command that a user gives: a dump, PopQA, a table of one's own, made-up facts."""

import bz2
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import REPOSITORY, SMOKE, Kp, run_kp

RESOURCE, ONTOLOGY = "http://dbpedia.org/resource/", "http://dbpedia.org/ontology/"
DATA = REPOSITORY.parent / "shared" / "data"
DBPEDIA, OWN = (REPOSITORY / "ray_jobs" / "studies" / f"{name}.toml" for name in ("dbpedia", "own_facts"))
BARE = ("facts.relations=[]", "search.unknown=[2]", "search.seeds=[0]", "search.arms=[{}]")


def _facts(root: Path) -> pl.DataFrame:
    (file,) = (root / "store" / "facts").glob("*/facts.parquet")
    return pl.read_parquet(file)


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """24 films with a director and an editor each, in two files: 4 of them have links to 100 things, 8 to 20, the others to none."""
    films = [(f"Film_{letter}", 100 * (place < 4) or 20 * (place < 12)) for place, letter in enumerate("abcdefghijklmnopqrstuvwx")]
    statements = [
        (film, relation, thing)
        for film, links in films
        for relation, thing in [
            ("director", f"D_{film}"),
            ("editing", f"E_{film}"),
            *(("unheardOf", f"T{number}") for number in range(links)),
        ]
    ]
    folder = tmp_path / "dump"
    folder.mkdir()
    for part in range(2):
        lines = [f"<{RESOURCE}{film}> <{ONTOLOGY}{relation}> <{RESOURCE}{thing}> .\n" for film, relation, thing in statements[part::2]]
        (folder / f"part-{part}.ttl.bz2").write_bytes(bz2.compress("".join(lines).encode()))
    return folder


def test_facts_of_a_folder_of_dumps_are_read_on_the_cluster_once(dump: Path, tmp_path: Path, kp_on_ray: Kp) -> None:
    first = kp_on_ray("facts", SMOKE, *BARE, f"facts.source={dump}", "facts.count=6", "--results", tmp_path / "runs")
    again = kp_on_ray("facts", SMOKE, *BARE, f"facts.source={dump}", "facts.count=9", "--results", tmp_path / "runs")

    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert "dump: 608 triples of 172 entities, 48 single-valued pairs" in first.stdout
    assert "without a template and left out, the largest: unheardOf (560 triples)" in first.stdout
    assert "dump: already done" in again.stdout
    assert "starting Ray" not in again.stdout
    assert sorted(len(pl.read_parquet(file)) for file in (tmp_path / "runs/store/facts").glob("*/facts.parquet")) == [6, 9]


def test_facts_that_are_made_up_carry_what_the_study_says(tmp_path: Path) -> None:
    made = ("facts.source=synthetic", "facts.count=12", "facts.synthetic.vocabulary=16", "facts.synthetic.relations=3")

    done = run_kp("facts", SMOKE, *BARE, *made, "--results", tmp_path)

    assert done.returncode == 0, done.stderr
    assert _facts(tmp_path)["relation"].value_counts()["count"].to_list() == [4, 4, 4]


def test_graph_settings_of_a_source_that_is_no_dump_are_refused(tmp_path: Path) -> None:
    done = run_kp("facts", SMOKE, "facts.graph.per_bucket=3", "--results", tmp_path)

    assert done.returncode == 2
    assert "facts.graph: it is about knowledge-graph dumps, and facts.source = 'builtin' is none" in done.stderr


def test_facts_above_the_share_that_may_be_unfit_stop_and_name_the_reason(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("question,answer\nWho is Al?,Al\nWhat is Bo?,a boat\n")

    done = run_kp("facts", SMOKE, *BARE, f"facts.source={table}", "facts.count=2", "--results", tmp_path / "runs")

    assert done.returncode == 2
    assert "1 of 2 rows (50.0%) cannot be measured, more than facts.max_rejected_fraction = 0.05" in done.stderr
    assert not list((tmp_path / "runs").glob("store/facts/*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "overrides"),
    [
        (DBPEDIA, (f"facts.source={DATA / 'dbpedia_sample.ttl.bz2'}", "facts.count=60", "search.unknown=[8]")),
        (OWN, (f"facts.source={DATA / 'popqa.parquet'}", "facts.count=60", "search.unknown=[8]")),
        (OWN, ()),
    ],
    ids=["dbpedia", "popqa", "own"],
)
def test_study_on_facts_from_elsewhere_reaches_its_report(study: Path, overrides: tuple[str, ...], tmp_path: Path) -> None:
    if overrides and not DATA.exists():
        pytest.skip("the real data sets, which are no part of the repository, are not beside it")

    done = run_kp("study", study, *overrides, "--results", tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / study.stem / "report" / "report.html").is_file()
    assert "completed" in done.stdout
