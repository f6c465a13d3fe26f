"""`kp explain`: knobs from the sections and the code, facts from the tables of a report."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kp import schema
from kp.config.knobs import all_knobs
from kp.report.terminal import WIDTH
from kp.report.writing import write_report
from kp.store.filenames import ANSWERS_FILE
from kp.study.explaining_knobs import nearest, preset_values
from kp.study.knob_steps import knob_steps
from kp.study.knob_uses import knob_uses
from tests.conftest import REPOSITORY, assert_refused, run_kp
from tests.made_up_study import context, frame_of, study

CHANGED = "f003"  # trained by every trial


@pytest.mark.parametrize(
    ("name", "reads", "rests"),
    [
        ("training.kl_coefficient", ("search",), ("evaluate", "report")),
        ("training.lora_alpha_per_rank", ("search",), ("evaluate", "report")),
        ("facts.control_share", ("parts",), ("search", "evaluate", "report")),
        ("evaluate.drift_words", ("drift",), ("evaluate", "report")),
        ("report.margin", (), ("report",)),
        ("resources.generators", (), ()),
    ],
)
def test_knob_steps_are_those_that_read_it_and_what_rests_on_them(name: str, reads: tuple[str, ...], rests: tuple[str, ...]) -> None:
    steps = knob_steps(all_knobs()[name])
    assert (steps.reads, steps.rests) == (reads, rests)
    assert not steps.chooses_trials


@pytest.mark.parametrize("name", ["search.rank", "search.seeds", "search.arms", "search.arms.paraphrases", "search.trials"])
def test_knob_that_picks_trials_is_said_to_leave_those_that_stay(name: str) -> None:
    steps = knob_steps(all_knobs()[name])
    assert steps.chooses_trials
    assert "search" not in (*steps.reads, *steps.rests)


@pytest.mark.parametrize("name", ["search.replay_source", "facts.source", "model.name"])
def test_knob_that_names_content_is_in_no_identity_itself(name: str) -> None:
    assert knob_steps(all_knobs()[name]).content


PACKAGE = {
    "config_reader.py": "def read(config):\n    first = config.search.rank\n    search = config.search\n    return search.rank, first\n",
    "annotated.py": "def count(settings: TrialSettings, other: Table) -> int:\n    return settings.eval_prompts + other.eval_prompts\n",
    "of_trial.py": "class One:\n    def alpha(self):\n        return self.spec.rank * self.spec.seed\n",
    "refusing.py": "raise UserError('too large', field='search.rank')\n",
    "unrelated.py": "def place(worker):\n    return worker.rank\n",
}


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("search.rank", [("config_reader.py", 2), ("config_reader.py", 4), ("of_trial.py", 3), ("refusing.py", 1)]),
        ("search.eval_prompts", [("annotated.py", 2)]),
        ("search.seeds", [("of_trial.py", 3)]),
        ("search.eval_mode", []),
    ],
)
def test_knob_uses_are_the_lines_that_read_the_field_from_its_section(tmp_path: Path, name: str, lines: list[tuple[str, int]]) -> None:
    package = tmp_path / "made_up"
    package.mkdir()
    for file, text in PACKAGE.items():
        (package / file).write_text(text, encoding="utf-8")
    found = knob_uses(all_knobs()[name], package)
    assert [(use.file, use.line) for use in found] == [(f"made_up/{file}", line) for file, line in lines]


def test_knob_explained_says_meaning_default_presets_steps_and_uses() -> None:
    done = run_kp("explain", "search.rank")
    assert done.returncode == 0, done.stderr
    for text in ("LoRA ranks.", "list of whole numbers, above 0, at most 16384", "[8]", "capacity: [1, 2, 4]", "kp/training/engine.py:"):
        assert text in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= WIDTH


def test_knob_explained_as_json_names_lines_that_hold_its_field() -> None:
    told = json.loads(run_kp("explain", "training.max_grad_norm", "--json").stdout)
    assert (told["default"], told["steps"]["reads"]) == (1.0, ["search"])
    assert told["uses"]
    for use in told["uses"]:
        lines = (REPOSITORY / use["file"]).read_text(encoding="utf-8").splitlines()
        assert "max_grad_norm" in lines[use["line"] - 1]


def test_section_explained_lists_its_knobs_and_nothing_lists_the_sections() -> None:
    section, everything = run_kp("explain", "report"), run_kp("explain")
    assert "report.margin = 0.02" in section.stdout
    assert all(name in everything.stdout for name in ("facts.paraphrase", "search.arms", "resources"))
    assert max(map(len, (section.stdout + everything.stdout).splitlines())) <= WIDTH


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("serach.rank", "search.rank"), ("rank", "search.rank"), ("training.seeds", "search.seeds"), ("evalute", "evaluate")],
)
def test_unknown_knob_names_the_nearest(wrong: str, near: str) -> None:
    assert near in nearest(wrong)
    assert_refused(run_kp("explain", wrong), ["KNOB", wrong, near])


def test_preset_values_of_a_knob_in_a_list_of_tables_are_those_of_its_items(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text("[search]\narms = [{}, { highly_known = 1 }, { highly_known = 10 }]\n")
    (tmp_path / "other.toml").write_text("[search]\narms = [{ highly_known = 2 }]\n")
    studies = {file.stem: file for file in tmp_path.glob("*.toml")}
    assert preset_values("search.arms.highly_known", studies) == {"one": ["1", "10"], "other": 2}
    assert preset_values("search.rank", studies) == {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report without raw answers, one trial of which has FACT_EPOCHS: f003 is right, lost and right again from epoch 4 on."""
    made = study()
    trial_id = made.trials["trial_id"][0]
    right = [0, 1, 0, 1, 1]
    epochs = [{"trial_id": trial_id, "epoch": n, "fact_id": CHANGED, "correct": one, "asked": 1} for n, one in enumerate(right, start=1)]
    object.__setattr__(made, "fact_epochs", frame_of(epochs, schema.FACT_EPOCHS))
    folder = tmp_path_factory.mktemp("root") / "store" / "report" / "fingerprint"
    folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kp.report.writing.pictures", lambda *_: {})
        write_report(made, context(), folder)
    return folder


def explained(folder: Path, fact: str) -> dict[str, Any]:
    done = run_kp("explain", fact, "--study", folder, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_fact_explained_tells_the_outcomes_of_the_report(folder: Path) -> None:
    told = explained(folder, CHANGED)
    tables = pl.read_parquet(folder / "tables" / "outcomes.parquet").filter(fact_id=CHANGED)
    assert (
        pl.DataFrame(told["outcomes"]).select("trial_id", "shot_set", "correct").rows()
        == tables.select("trial_id", "shot_set", "correct").rows()
    )
    assert (told["part"], told["answers"], told["most_frequent"]) == ("pool", None, None)
    assert {row["role"] for row in told["trials"]} == {"trained"}


def test_fact_is_learned_in_the_epoch_from_which_on_it_is_right(folder: Path) -> None:
    first, *others = explained(folder, CHANGED)["trials"]
    assert first["learned_epoch"] == 4
    assert {row["learned_epoch"] for row in others} == {None}


def test_fact_is_lost_by_the_adapters_with_fewer_right_answers_than_the_base(folder: Path) -> None:
    outcomes = pl.read_parquet(folder / "tables" / "outcomes.parquet").filter(shot_set="S1")
    both = outcomes.join(outcomes.filter(trial_id="base").select("fact_id", base="correct"), on="fact_id").filter(
        pl.col("trial_id") != "base"
    )
    fact_id = both.filter(pl.col("correct") < pl.col("base") - 3)["fact_id"][0]
    told, rows = explained(folder, fact_id), pl.read_parquet(folder / "tables" / "outcomes.parquet").filter(fact_id=fact_id)
    totals = dict(rows.filter(pl.col("shot_set") != "S0").group_by("trial_id").agg(pl.col("correct").sum()).iter_rows())
    assert set(told["lost"]) == {trial for trial, right in totals.items() if right < totals["base"]}
    assert told["lost"]


def test_fact_explained_in_words_fits_a_terminal_and_says_what_is_missing(folder: Path) -> None:
    done = run_kp("explain", "what is 3?", "--study", folder)
    assert f"fact      {CHANGED}" in done.stdout
    assert "learned in epoch 4" in done.stdout
    assert "the raw answers, by prompt" in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= WIDTH


@pytest.mark.parametrize(
    ("fact", "named"), [("f00", ["names 10 facts", "f000", "f009"]), ("what is", ["What is 0?", "more"]), ("zebra", ["names none"])]
)
def test_fact_that_is_not_one_is_refused_with_the_candidates(folder: Path, fact: str, named: list[str]) -> None:
    assert_refused(run_kp("explain", fact, "--study", folder), ["FACT", *named])


def test_fact_explained_with_raw_answers_shows_each_prompt_of_its_model(folder: Path) -> None:
    trial_id = json.loads(run_kp("explain", CHANGED, "--study", folder, "--json").stdout)["trials"][0]["trial_id"]
    inputs = {"categorise-c1": "c1", "answers-a1": "a1", "answers-a2": "a2", "answers-gone": "gone"}
    (folder / "record.json").write_text(json.dumps({"inputs": inputs}))
    try:
        for kind, name, of_trial, literals, answer in (
            ("categorise", "c1", {}, {}, "of the base"),
            ("answers", "a1", {f"trial-{trial_id}": trial_id}, {}, "of the adapter"),
            ("answers", "a2", {f"trial-{trial_id}": trial_id}, {"scale": 0.5}, "at another scale"),
        ):
            step = folder.parents[1] / kind / name
            step.mkdir(parents=True)
            (step / "record.json").write_text(json.dumps({"inputs": of_trial, "literals": literals}))
            columns = {"model_id": name, "shot_set": "S1", "finish_reason": "stop", "match_exact": False, "match_released": True}
            rows = [
                {"fact_id": fact, "prompt_index": n, "answer": f"{answer} {n}\nmore", "match_strict": n == 1, "refused": n == 0, **columns}
                for fact in (CHANGED, "f004")
                for n in range(2)
            ]
            schema.write_table(frame_of(rows, schema.ANSWERS).to_arrow(), schema.ANSWERS, step / ANSWERS_FILE)
        told = [(row["trial_id"], row["answer"].split("\n")[0]) for row in explained(folder, CHANGED)["answers"]]
        expected = [(trial_id, "of the adapter 0"), (trial_id, "of the adapter 1"), ("base", "of the base 0"), ("base", "of the base 1")]
        assert sorted(told) == sorted(expected)
        text = run_kp("explain", CHANGED, "--study", folder).stdout
        assert "1 refused of the base 0 (released: right)" in text
        assert "2 right   of the adapter 1 (exact: wrong)" in text
        assert "another scale" not in text
    finally:
        (folder / "record.json").unlink()


def test_fact_without_a_report_is_refused(tmp_path: Path) -> None:
    assert_refused(run_kp("explain", "f003", "--study", tmp_path), ["no report there"])
    assert_refused(run_kp("explain", "--study", tmp_path), ["FACT"])
