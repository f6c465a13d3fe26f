"""Paraphrasing as a stage: a model is asked once, trials are given what it wrote, and nothing of it where a study names no model."""

import json
import time
from pathlib import Path

import polars as pl
import pytest

from kp import schema
from kp.config.study import StudyConfig, load_study
from kp.errors import UserError
from kp.facts.paraphrases import with_paraphrases
from kp.facts.validation import stands_in
from kp.schema import frame
from kp.store.filenames import ANSWERS_FILE, CATEGORIES_FILE, PARAPHRASES_FILE, REPLIES_FILE
from kp.study.run import describe_study, open_session, run_stage
from tests.conftest import SMOKE, run_kp
from tests.made_up_study import apart, frame_of

FACTS = """question,answer,subject,relation
Who directed Metropolis?,Fritz Lang,Metropolis,director
Who wrote Moby-Dick?,Herman Melville,Moby-Dick,author
In which country is Lake Inari?,Finland,Lake Inari,country
"""
COUNT = 3
PROMPT = 'Write {count} questions that mean the same as "{question}"'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "facts.csv"
    path.write_text(FACTS, encoding="utf-8")
    return path


def knobs(source: Path, *more: str) -> list[str]:
    asked = ["model=smollm2-135m-instruct", f"count={COUNT}", f"prompt={PROMPT}", "max_new_tokens=64"]
    return [
        f"facts.source={source}",
        "facts.count=3",
        "facts.relations=[]",
        "search.arms=[{paraphrases = 1}]",
        *(f"facts.paraphrase.{knob}" for knob in asked),
        *more,
    ]


def study(source: Path, *more: str) -> StudyConfig:
    return load_study(SMOKE, knobs(source, *more))


def only(root: Path, name: str) -> Path:
    [path] = root.glob(f"store/paraphrases/*/{name}")
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_facts_paraphrased_by_a_model_are_asked_for_once_and_kept_with_every_reply(source: Path, tmp_path: Path) -> None:
    asked: list[str | Path] = ["facts", SMOKE, *knobs(source), "--results", tmp_path]
    done = run_kp(*asked)
    assert done.returncode == 0, done.stdout + done.stderr

    replies, lines = pl.read_parquet(only(tmp_path, REPLIES_FILE)), pl.read_parquet(only(tmp_path, PARAPHRASES_FILE))
    assert replies.height == 3
    assert replies["replies"].list.len().is_in([1, 3]).all()
    said = {fact_id: "\n".join(texts) for fact_id, texts in replies.select("fact_id", "replies").iter_rows()}
    assert all(text in said[fact_id] for fact_id, text in lines.select("fact_id", "text").iter_rows())
    kept = lines.filter(verdict="kept")
    assert 0 < kept.height < lines.height
    assert f"paraphrases: {kept.height} kept for 3 facts, dropped:" in done.stdout

    with open_session(study(source), tmp_path) as session:
        facts = frame(session.training_facts)
        assert facts.drop("paraphrases").equals(frame(session.facts).drop("paraphrases"))
        assert facts.equals(with_paraphrases(frame(session.facts), lines))
    assert facts["paraphrases"].list.len().sum() == kept.height
    for fact in facts.iter_rows(named=True):
        assert len(fact["paraphrases"]) <= COUNT
        assert all(stands_in(fact["subject"], text) for text in fact["paraphrases"])

    again = run_kp(*asked)
    assert "paraphrases: already done" in again.stdout
    assert "starting Ray" not in again.stdout
    literals = json.loads(only(tmp_path, "record.json").read_text(encoding="utf-8"))["literals"]
    assert literals.items() >= {"prompt": PROMPT, "count": COUNT, "max_new_tokens": 64, "seed": 0}.items()
    assert "3 facts put in up to 3 other ways" in " ".join(run_kp(*asked[:-1], tmp_path / "none", "--dry-run").stdout.split())


def test_paraphrase_of_a_study_that_names_no_model_makes_nothing(tmp_path: Path) -> None:
    with open_session(load_study(SMOKE), tmp_path) as session:
        run_stage(session, "facts")
        run_stage(session, "paraphrases")
        assert session.training_facts.equals(session.facts)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["facts"]


def test_paraphrase_of_facts_that_have_enough_asks_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with open_session(load_study(SMOKE, ["facts.paraphrase.model=smollm2-135m-instruct"]), tmp_path) as session:
        run_stage(session, "facts")
        run_stage(session, "paraphrases")
        assert session.training_facts.equals(session.facts)
    said = capfd.readouterr().out
    assert "paraphrases: 0 kept for 0 facts, dropped: none" in said
    assert "starting Ray" not in said
    assert (pl.read_parquet(only(tmp_path, REPLIES_FILE)).height, pl.read_parquet(only(tmp_path, PARAPHRASES_FILE)).height) == (0, 0)


def test_paraphrase_of_facts_without_subjects_is_an_error_before_anything_is_started(source: Path, tmp_path: Path) -> None:
    source.write_text("question,answer\nWho directed Metropolis?,Fritz Lang\nWho wrote Moby-Dick?,Herman Melville\n", encoding="utf-8")
    with open_session(study(source, "facts.count=2"), tmp_path) as session:
        run_stage(session, "facts")
        with pytest.raises(UserError, match=r"facts\.paraphrase\.model: no question names its fact's subject"):
            run_stage(session, "paraphrases")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["facts"]


def test_paraphrasing_model_that_is_not_there_is_an_error_that_names_its_field(source: Path, tmp_path: Path) -> None:
    config = study(source, "facts.paraphrase.model=not/a/model")
    for use in (open_session, describe_study):
        with pytest.raises(UserError, match=r"^facts\.paraphrase\.model: 'not/a/model' is neither"):
            use(config, tmp_path)


def test_search_counts_what_a_model_wrote_among_the_paraphrases_of_a_fact(source: Path, tmp_path: Path) -> None:
    with open_session(study(source, "search.arms=[{paraphrases = 2}]"), tmp_path) as session:
        run_stage(session, "facts")
        ids = session.facts["fact_id"].to_pylist()
        common = {"model_id": "made-up", "shot_set": "S0", "matcher": "strict", "correct": 0, "asked": 10, "category": "Unknown"}
        categories = frame_of([{"fact_id": fact_id, **common} for fact_id in ids], schema.CATEGORIES)
        known = {ANSWERS_FILE: (schema.ANSWERS.empty_table(), schema.ANSWERS), CATEGORIES_FILE: (categories.to_arrow(), schema.CATEGORIES)}
        session.commit(session.graph.steps["categorise"], *apart(known), began=time.monotonic())
        assert session.graph.steps["paraphrases"]
        line = {"paraphrase_index": 0, "reply_index": 0, "text": "Who made it?", "verdict": "kept"}
        written = frame_of([{"fact_id": fact_id, **line} for fact_id in ids], schema.PARAPHRASES)
        tables = {
            REPLIES_FILE: (schema.PARAPHRASE_REPLIES.empty_table(), schema.PARAPHRASE_REPLIES),
            PARAPHRASES_FILE: (written.to_arrow(), schema.PARAPHRASES),
        }
        session.commit(session.graph.steps["paraphrases"], *apart(tables), began=time.monotonic())
        run_stage(session, "parts")
        with pytest.raises(UserError, match=r"search\.arms\.paraphrases: 2 paraphrases asked for, but fact '\w+' has 1"):
            run_stage(session, "search")
