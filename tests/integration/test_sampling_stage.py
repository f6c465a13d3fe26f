"""Sampling as a stage: the same samples from scratch, and nothing of it where a study does not ask for it."""

import json
import time
from pathlib import Path

import polars as pl
import pytest

from kp import schema
from kp.config.study import StudyConfig, load_study
from kp.errors import UserError
from kp.metrics.categories import categorise
from kp.metrics.slick import slick_table
from kp.prompts import PROMPTS_PER_SET
from kp.schema import frame
from kp.store.filenames import ANSWERS_FILE, CATEGORIES_FILE, SAMPLES_FILE, SLICK_FILE
from kp.study.run import open_session, run_stage
from kp.study.session import Session
from tests.conftest import SMOKE, Kp
from tests.made_up_study import apart, frame_of
from tests.tiny_study import FACTS

COUNT = 4


def only(root: Path, name: str) -> Path:
    [path] = root.glob(f"store/samples/*/{name}")
    return path


@pytest.mark.studies
def test_categorise_with_samples_twice_from_scratch_draws_the_same(tiny_study: Path, kp_on_ray: Kp, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    asked = ("categorise", tiny_study, f"categorise.samples={COUNT}", f"facts.count={FACTS}", "--results")
    for root in (first, second):
        root.mkdir()
        done = kp_on_ray(*asked, root)
        assert done.returncode == 0, done.stdout + done.stderr
    samples = pl.read_parquet(only(first, SAMPLES_FILE))
    assert samples.equals(pl.read_parquet(only(second, SAMPLES_FILE)))

    slick = pl.read_parquet(only(first, SLICK_FILE))
    sampled = slick.filter(pl.col("sampled") > 0)
    assert len(slick) == FACTS
    assert sampled["fact_id"].sort().to_list() == slick.filter(correct=0)["fact_id"].sort().to_list()
    assert set(sampled["sampled"]) == {PROMPTS_PER_SET * COUNT}
    assert len(samples) == len(sampled) * PROMPTS_PER_SET * COUNT > 0
    assert samples.select("fact_id", "prompt_index", "answer").n_unique() > len(sampled) * PROMPTS_PER_SET  # drawn, not repeated
    weakly = slick.filter(category="WeaklyKnown").height
    assert f"samples: {weakly} WeaklyKnown, {len(sampled) - weakly} Unknown of {len(sampled)} facts" in done.stdout

    again = kp_on_ray(*asked, second)
    assert "samples: already done" in again.stdout
    assert "starting Ray" not in again.stdout
    planned = kp_on_ray(*asked[:-1], "--results", tmp_path / "none", "--dry-run").stdout
    assert f"{FACTS * PROMPTS_PER_SET * COUNT:,} sampled answers" in planned


def answered(session: Session, right: int) -> None:
    """Choose the study's facts and commit answers of which the first `right` prompts of every shot set are right for every fact."""
    run_stage(session, "facts")
    common = {"model_id": "made-up", "answer": "x", "finish_reason": "stop", "refused": False}
    rows = [
        {**common, "fact_id": fact_id, "shot_set": shot_set, "prompt_index": prompt}
        | dict.fromkeys(("match_strict", "match_exact", "match_released"), prompt < right)
        for fact_id in session.facts["fact_id"].to_pylist()
        for shot_set in ("S0", "S1", "S2")
        for prompt in range(PROMPTS_PER_SET)
    ]
    answers = frame_of(rows, schema.ANSWERS)
    tables = {ANSWERS_FILE: (answers.to_arrow(), schema.ANSWERS), CATEGORIES_FILE: (categorise(answers).to_arrow(), schema.CATEGORIES)}
    session.commit(session.graph.steps["categorise"], *apart(tables), began=time.monotonic())


@pytest.fixture
def sampling() -> StudyConfig:
    return load_study(SMOKE, [f"categorise.samples={COUNT}"])


def test_sample_of_a_study_that_asks_for_none_makes_nothing(tmp_path: Path) -> None:
    with open_session(load_study(SMOKE, ["categorise.samples=0"]), tmp_path) as session:
        answered(session, right=0)
        run_stage(session, "samples")
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["categorise", "facts"]
    assert not [path for path in tmp_path.rglob("*") if path.name in (SAMPLES_FILE, SLICK_FILE)]


def test_sample_of_a_model_that_knows_every_fact_asks_nothing(
    sampling: StudyConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_session(sampling, tmp_path) as session:
        answered(session, right=1)
        run_stage(session, "samples")
    said = capfd.readouterr().out
    assert "samples: 0 WeaklyKnown, 0 Unknown of 0 facts" in said
    assert "starting Ray" not in said
    assert len(pl.read_parquet(only(tmp_path, SAMPLES_FILE))) == 0
    slick = pl.read_parquet(only(tmp_path, SLICK_FILE))
    assert slick.select("category", "sampled_correct", "sampled").unique().rows() == [("MaybeKnown", 0, 0)]
    literals = json.loads(only(tmp_path, "record.json").read_text(encoding="utf-8"))["literals"]
    assert literals["categorise.samples"] == COUNT
    assert "categorise.sample_temperature" not in literals  # at its default


def test_search_trains_on_no_weakly_known_fact(sampling: StudyConfig, tmp_path: Path) -> None:
    with open_session(sampling, tmp_path) as session:
        answered(session, right=0)
        assert session.graph.steps["samples"]
        common = {"model_id": "made-up", "shot_set": "S0", "prompt_index": 0, "sample_index": 0, "answer": "x"}
        rows = [
            {**common, "fact_id": fact_id, **dict.fromkeys(("match_strict", "match_exact", "match_released"), place > 0)}
            for place, fact_id in enumerate(session.facts["fact_id"].to_pylist())
        ]
        samples = frame_of(rows, schema.SAMPLES)
        categories = session.store.read(session.graph.steps["categorise"], CATEGORIES_FILE, schema.CATEGORIES)
        slick = slick_table(frame(categories), samples, sampling.categorise.matcher)
        tables = {SAMPLES_FILE: (samples.to_arrow(), schema.SAMPLES), SLICK_FILE: (slick.to_arrow(), schema.SLICK)}
        session.commit(session.graph.steps["samples"], *apart(tables), began=time.monotonic())
        run_stage(session, "parts")
        with pytest.raises(UserError, match=r"search\.unknown: 2 Unknown facts .*, but the base has 1 \(11 more are WeaklyKnown\)"):
            run_stage(session, "search")
