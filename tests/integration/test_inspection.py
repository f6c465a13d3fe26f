"""`kp audit` and `kp noise` on a study whose answers are there: made-up ones, so that what must come out is known and no model is asked."""

import json
import time
from pathlib import Path

import polars as pl
import pytest

from kp import schema
from kp.config.study import StudyConfig, load_study
from kp.metrics.categories import categorise
from kp.metrics.matching import match_all
from kp.prompts import PROMPTS_PER_SET
from kp.schema import frame
from kp.store.filenames import ANSWERS_FILE, CATEGORIES_FILE
from kp.study.inspection import Inspection, inspect_study, portable
from kp.study.run import open_session, run_stage
from tests.conftest import SMOKE
from tests.made_up_study import apart

SHOT_SETS = ("S0", "S1", "S2")


def made_up_answers(facts: pl.DataFrame) -> pl.DataFrame:
    """Facts 0 to 3 are always right and 4 to 7 never, but that fact 3 is right half the time on S2; the last four refuse."""
    rows = []
    for place, (fact_id, aliases) in enumerate(facts.sort("relation", "fact_id").select("fact_id", "answers").iter_rows()):
        for shot_set in SHOT_SETS:
            for prompt in range(PROMPTS_PER_SET):
                right = place < 3 or (place == 3 and (shot_set != "S2" or prompt < 5))
                text = f"Answer: {aliases[0]}" if right else "Answer: Nowhere" if place < 8 else "Answer: I don't know."
                found = match_all(text, aliases)
                rows.append(
                    {
                        "fact_id": fact_id,
                        "model_id": "made-up",
                        "shot_set": shot_set,
                        "prompt_index": prompt,
                        "answer": text,
                        "finish_reason": "stop",
                        "match_strict": found.strict,
                        "match_exact": found.exact,
                        "match_released": found.released,
                        "refused": place >= 8,
                    }
                )
    return pl.DataFrame(rows)


@pytest.fixture
def config() -> StudyConfig:
    return load_study(SMOKE)


@pytest.fixture
def root(config: StudyConfig, tmp_path: Path) -> Path:
    """A results root where the study's facts are chosen and its answers given."""
    with open_session(config, tmp_path) as session:
        run_stage(session, "facts")
        answers = made_up_answers(frame(session.facts))
        tables = {
            ANSWERS_FILE: (answers.to_arrow(), schema.ANSWERS),
            CATEGORIES_FILE: (categorise(answers).to_arrow(), schema.CATEGORIES),
        }
        session.commit(session.graph.steps["categorise"], *apart(tables), began=time.monotonic())
    return tmp_path


def read(root: Path, what: str, name: str) -> pl.DataFrame:
    return pl.read_parquet(root / "smoke" / what / f"{name}.parquet")


def test_audit_of_known_answers_finds_what_was_put_in(config: StudyConfig, root: Path) -> None:
    assert inspect_study(config, root, Inspection.AUDIT) == 0
    refusals = read(root, "audit", "refusals").filter(pl.col("prompt_index").is_null())
    assert refusals.select("refused", "n").rows() == [(40, 120)] * 3
    assert read(root, "audit", "majority")["highly_known"].sum() == 4
    flagged = read(root, "audit", "constant_facts").height
    assert flagged == read(root, "audit", "majority")["highly_known_constant"].sum() >= 1
    false = read(root, "audit", "false_positives").filter(pl.col("relation").is_null(), matcher="exact")
    assert false["answers"].to_list() == [360]
    counts = read(root, "audit", "category_counts").filter(shot_set="S0", matcher="strict")
    assert dict(counts.select("category", "facts").iter_rows()).items() >= {"HighlyKnown": 4, "MaybeKnown": 0, "Unknown": 8}.items()
    assert read(root, "audit", "relation_counts")["facts"].sum() == 12 * 3 * 3


def test_noise_of_known_answers_counts_the_one_fact_that_fell(config: StudyConfig, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert inspect_study(config, root, Inspection.NOISE) == 0
    negative = read(root, "noise", "noise_shifts").filter(shift="negative").select("view", "count", "n").rows()
    assert negative == [("all", 1, 12), ("at_risk", 1, 4)]
    fell = read(root, "noise", "noise_transitions").filter(before="HighlyKnown", after="MaybeKnown")["facts"]
    assert fell.to_list() == [1]
    assert "1 of 12 facts fall in category (8.33 %; 25.0 % of the 4 at risk)" in capfd.readouterr().out


@pytest.mark.parametrize("what", list(Inspection))
def test_inspection_leaves_a_folder_fit_to_be_committed(
    config: StudyConfig, root: Path, what: Inspection, capfd: pytest.CaptureFixture[str]
) -> None:
    inspect_study(config, root, what)
    folder = root / "smoke" / what
    drawn = [line for line in capfd.readouterr().out.splitlines() if line[:1] in "┏┃┡│└"]
    assert 0 < max(map(len, drawn)) <= 80
    study = load_study(folder / "study.toml")
    assert study.model_copy(update={"resources": config.resources}) == config
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    answers = json.loads((folder / "categorise_record.json").read_text(encoding="utf-8"))
    assert answers["fingerprint"] in record["inputs"].values()
    assert {f"{what}.md", "study.toml", "categorise_record.json"} <= record["files"].keys()
    tables = {path.stem for path in folder.glob("*.parquet")}
    assert tables == {path.stem for path in folder.glob("*.csv")}
    assert all(pl.read_csv(folder / f"{name}.csv").height == read(root, what, name).height for name in tables)
    assert str(root) not in "".join(path.read_text(encoding="utf-8") for path in folder.iterdir() if path.suffix != ".parquet")


@pytest.mark.parametrize("what", list(Inspection))
def test_inspection_run_again_prints_the_same_and_makes_nothing(
    config: StudyConfig, root: Path, what: Inspection, capfd: pytest.CaptureFixture[str]
) -> None:
    inspect_study(config, root, what)
    first = capfd.readouterr().out
    times = {path: path.stat().st_mtime_ns for path in (root / "store").rglob("*") if path.is_file()}
    inspect_study(config, root, what)
    second = capfd.readouterr().out
    assert f"{what}: already done" in second
    assert second.split("not redone\n")[-1].split("finished in")[0] == first.split("not redone\n")[-1].split("finished in")[0]
    assert {path: path.stat().st_mtime_ns for path in (root / "store").rglob("*") if path.is_file()} == times


def test_portable_study_names_files_without_their_folders(config: StudyConfig, tmp_path: Path) -> None:
    source = tmp_path / "mine.csv"
    source.write_text("question,answer\n", encoding="utf-8")
    elsewhere = config.model_copy(update={"facts": config.facts.model_copy(update={"source": str(source)})})
    assert portable(elsewhere)["facts"]["source"] == "mine.csv"
    assert portable(config)["facts"]["source"] == "builtin"
    assert "resources" not in portable(config)
