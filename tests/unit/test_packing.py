"""kp pack without a model: what is asked, what becomes of each fact, which trial and scale is taken, what is said, what is left."""

import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
import yaml

from kp import schema
from kp.config.search import SearchArm
from kp.config.toml import toml_text
from kp.errors import UserError
from kp.facts.builtin import load_builtin
from kp.metrics.result_schema import SCALE_CURVE
from kp.packing.choice import Ending, affordable_trials, chosen_scale, ranked_trials, told_at
from kp.packing.fact_tables import learned_table, lost_table
from kp.packing.page import pack_page, statement
from kp.packing.request import PackRequest, read_tables
from kp.packing.roles import assign_roles, surveyed_facts
from kp.packing.study_file import answer_tokens, budgeted, config_of, pack_document, scaled_document, survey_document
from kp.packing.trainers import Recipe, axolotl_config, llamafactory_config, llamafactory_dataset, trainer_files
from kp.report.markdown import render_markdown
from kp.schema import frame
from kp.search.stepwise import stepwise_size
from kp.training.spec import grid
from kp.vocabulary import Verdict
from tests.conftest import assert_refused, run_kp
from tests.made_up_outcomes import outcomes

TABLE = "question,answer\nWhich team keeps the mill?,Team Oak\nWhich team keeps the forge?,Team Ash\nWhich team keeps the inn?,Team Elm\n"
# Keys that the tools document: axolotl's config reference and conversation format, LLaMA-Factory's examples of LoRA and README of data.
AXOLOTL = {
    *("base_model", "datasets", "val_set_size", "output_dir", "adapter", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"),
    *("sequence_len", "sample_packing", "micro_batch_size", "gradient_accumulation_steps", "num_epochs", "optimizer", "lr_scheduler"),
    *("learning_rate", "warmup_ratio", "weight_decay", "train_on_inputs", "bf16", "seed"),
}
AXOLOTL_DATASET = {"path", "ds_type", "type", "field_messages", "roles_to_train"}
LLAMAFACTORY = {
    *("model_name_or_path", "stage", "do_train", "finetuning_type", "lora_rank", "lora_alpha", "lora_dropout", "lora_target", "dataset"),
    *("dataset_dir", "template", "cutoff_len", "output_dir", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("learning_rate", "num_train_epochs", "lr_scheduler_type", "warmup_ratio", "weight_decay", "seed"),
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "team facts.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def request_of(table: Path, **more: object) -> PackRequest:
    return PackRequest(table, "smollm2-135m-instruct", table.parent / "runs", table.parent / "out", **more)  # type: ignore[arg-type]


def document_of(table: Path, replay: str | None = "replay.parquet", **more: object) -> dict[str, object]:
    return pack_document(request_of(table, **more), 3, 10, {"facts": "facts.parquet", "replay": replay})


def categories_of(facts: pl.DataFrame, correct: Mapping[str, int]) -> pl.DataFrame:
    """CATEGORIES of facts whose question has one of these words; the others have no right answer."""
    counts = [next((count for word, count in correct.items() if word in question), 0) for question in facts["question"]]
    names = ["Unknown" if not count else "HighlyKnown" if count == 10 else "MaybeKnown" for count in counts]
    return facts.select("fact_id").with_columns(
        correct=pl.Series(counts, dtype=pl.Int32), asked=pl.lit(10, pl.Int32), category=pl.Series(names, dtype=pl.String)
    )


@pytest.mark.parametrize("trials", range(1, 13))
@pytest.mark.parametrize("replays", [True, False])
def test_budget_is_spent_on_rates_first_and_never_exceeded(trials: int, replays: bool) -> None:
    rates, arms, ranks = budgeted(trials, replays=replays)
    size = stepwise_size(len(rates), len(arms), len(ranks))
    assert size <= trials
    assert size == trials or (len(rates) == 4 and len(ranks) == 3) or not replays
    assert rates == sorted(rates)
    assert len(rates) >= len(ranks)


@pytest.mark.parametrize("trials", [1, 2, 4, 6, 9, 30])
@pytest.mark.parametrize("replay", ["replay.parquet", None])
def test_pack_study_is_one_that_kp_study_runs(table: Path, trials: int, replay: str | None, tmp_path: Path) -> None:
    document = document_of(table, replay, trials=trials)
    path = tmp_path / "pack.toml"
    path.write_text(toml_text(document), encoding="utf-8")
    from kp.config.study import load_study

    config = load_study(path)
    assert config == config_of(document, path)
    assert config.name == "team-facts-pack"
    assert config.search.unknown == (3,)
    assert config.search.trials is not None
    assert config.search.trials <= trials


def test_pack_study_takes_overrides_and_fits_its_trials_to_them(table: Path) -> None:
    document = document_of(table, trials=6, overrides=("search.learning_rate=[1e-3]", "training.epochs=40", "name=mine"))
    config = config_of(document, table)
    assert (config.name, config.training.epochs, config.search.learning_rate) == ("mine", 40, (1e-3,))
    assert config.search.trials == stepwise_size(1, len(config.search.arms), len(config.search.rank))


def test_pack_study_without_a_mix_that_replays_names_no_source_to_replay(table: Path) -> None:
    config = config_of(document_of(table, trials=4, overrides=("search.arms=[{}]",)), table)
    assert config.search.replay_source is None


def test_pack_study_with_paraphrases_lets_the_model_itself_write_what_is_missing(table: Path) -> None:
    config = config_of(document_of(table, paraphrases=2), table)
    assert all(arm.paraphrases == 2 for arm in config.search.arms)
    assert (config.facts.paraphrase.model, config.facts.paraphrase.count) == ("smollm2-135m-instruct", 2)


def test_survey_trains_nothing_new_and_shares_the_model(table: Path) -> None:
    survey = config_of(survey_document(document_of(table), table, table), table)
    assert survey.name == "team-facts-pack-survey"
    assert survey.search.replay_source == str(table)


@pytest.mark.parametrize("arm", [{}, {"highly_known": 1}, {"highly_known": 1, "kl_coefficient": 1.0}, {"weight_decay": 0.1}])
def test_scaled_study_has_the_chosen_trial_itself(table: Path, arm: dict[str, object]) -> None:
    document = document_of(table, overrides=("seed=3",))
    document["search"]["arms"] = [arm]  # type: ignore[index]
    document["search"] |= {"sampler": "grid", "trials": None, "rank": [8], "learning_rate": [1e-3]}  # type: ignore[operator]
    if not arm.get("highly_known"):
        del document["search"]["replay_source"]  # type: ignore[attr-defined]
    (spec,) = grid(config_of(document, table))
    scaled = config_of(scaled_document(document, spec, 3), table)
    assert [one.literals() for one in grid(scaled)] == [spec.literals()]
    assert scaled.evaluate.scales == (0.5, 0.75, 1.0)


def test_answer_tokens_grow_with_the_answer_up_to_a_limit() -> None:
    assert answer_tokens(5) == 12 < answer_tokens(60) < answer_tokens(1000) == 64


def test_roles_teach_the_unknown_and_keep_what_is_known_apart(table: Path) -> None:
    facts = read_tables(request_of(table)).facts
    surveyed = surveyed_facts(frame(load_builtin()), facts, None, 20)
    known = categories_of(surveyed, {"capital": 10, "language": 10, "continent": 6, "city": 4})
    roles = assign_roles(facts, categories_of(facts, {"mill": 1}), surveyed, known, None, 20)
    assert roles.already_known["question"].to_list() == ["Which team keeps the mill?"]
    assert sorted(roles.taught["answers"].list.first()) == ["Team Ash", "Team Elm"]
    right = dict(known.select("fact_id", "correct").iter_rows())
    assert 4 <= len(roles.controls) <= 20
    assert all(right[fact_id] >= 5 for fact_id in roles.controls["fact_id"])
    assert len(roles.replayed) == 2
    assert all(right[fact_id] == 10 for fact_id in roles.replayed["fact_id"])
    assert not set(roles.controls["fact_id"]) & set(roles.replayed["fact_id"])


def test_roles_of_a_table_to_keep_are_all_controls_and_the_unknown_ones_are_named(table: Path, tmp_path: Path) -> None:
    keep = tmp_path / "keep.csv"
    keep.write_text("question,answer\n" + "".join(f"Who runs ward {ward}?,Nurse {ward}\n" for ward in range(9)), encoding="utf-8")
    tables = read_tables(request_of(table, keep=keep))
    assert tables.keep is not None
    surveyed = surveyed_facts(frame(load_builtin()), tables.facts, tables.keep, 40)
    of_surveyed = categories_of(surveyed, {"ward 8": 3, "ward": 10, "language": 10})
    roles = assign_roles(tables.facts, categories_of(tables.facts, {}), surveyed, of_surveyed, tables.keep, 40)
    assert len(roles.controls) == 8
    assert roles.not_kept["question"].to_list() == ["Who runs ward 8?"]
    assert not roles.replayed["question"].str.contains("ward").any()


def test_roles_of_known_facts_alone_leave_nothing_to_teach(table: Path) -> None:
    facts = read_tables(request_of(table)).facts
    surveyed = surveyed_facts(frame(load_builtin()), facts, None, 20)
    with pytest.raises(UserError, match=r"FACTS: .* 3 facts right at least once in ten already"):
        assign_roles(facts, categories_of(facts, {"team": 2}), surveyed, categories_of(surveyed, {"": 10}), None, 20)


def test_roles_with_hardly_a_known_fact_ask_for_more(table: Path) -> None:
    facts = read_tables(request_of(table)).facts
    surveyed = surveyed_facts(frame(load_builtin()), facts, None, 20)
    with pytest.raises(UserError, match=r"--keep: the model knows only 0 of .* give more"):
        assign_roles(facts, categories_of(facts, {}), surveyed, categories_of(surveyed, {}), None, 20)


CURVES = {  # reliability on S1 and S2, dev loss, test loss, by scale
    0.5: (0.90, 0.90, 0.00, 0.00),
    0.75: (0.96, 0.97, 0.01, 0.012),
    1.0: (1.00, 1.00, 0.05, 0.060),
}


def curve_of(values: Mapping[float, tuple[float, float, float, float]], half: float = 0.03) -> pl.DataFrame:
    rows = []
    for scale, (one, two, dev, test) in values.items():
        for measure, value in (("reliability", one), ("reliability_s2", two), ("dev_loss", dev), ("test_loss", test)):
            limits = (value - half, value + half) if measure.endswith("loss") else (None, None)
            verdict = "harm_shown" if value > half else "within_margin" if value + half < 0.02 else "not_resolved"
            row = dict(zip(SCALE_CURVE.names, ("t", scale, measure, value, 50, 0.01, *limits, None), strict=True))
            rows.append(row | ({"verdict_alone": Verdict(verdict).value} if measure.endswith("loss") else {}))
    return pl.DataFrame(rows, schema=frame(SCALE_CURVE.empty_table()).schema)


def test_scale_is_the_one_that_loses_least_of_those_that_are_reliable() -> None:
    assert chosen_scale(curve_of(CURVES), "t", 0.95) == 0.75
    assert chosen_scale(curve_of(CURVES), "t", 0.85) == 0.5
    assert chosen_scale(curve_of(CURVES), "t", 1.01) == 1.0


def test_told_is_what_had_no_part_in_the_choice() -> None:
    told = told_at(curve_of(CURVES), "t", 0.75, 0.95, 0.02)
    assert (told.reliability_told, told.loss, told.controls) == (0.97, 0.012, 50)


@pytest.mark.parametrize(
    ("scale", "half", "ending", "words"),
    [
        (0.75, 0.0125, Ending.UNRESOLVED, "is not resolved"),
        (0.75, 0.005, Ending.PACKED, "Packed with no harm beyond 2 points: 97.0%"),  # 1.2 points: harm is shown, and it is a small one
        (0.75, 0.03, Ending.UNRESOLVED, "is not resolved: 97.0%"),
        (1.0, 0.03, Ending.HARMFUL, "None found that packs the facts without harm"),
        (0.5, 0.03, Ending.NOT_LEARNED, "None found that packs the facts to 95%"),
    ],
)
def test_statement_says_what_came_of_it(scale: float, half: float, ending: Ending, words: str) -> None:
    told = told_at(curve_of(CURVES, half), "t", scale, 0.95, 0.02)
    assert told.ending is ending
    assert words in statement(told, 10)[0]


def test_statement_of_a_loss_that_is_ruled_out_beyond_the_margin() -> None:
    told = told_at(curve_of({1.0: (1.0, 1.0, 0.0, 0.001)}, half=0.01), "t", 1.0, 0.95, 0.02)
    assert told.ending is Ending.PACKED
    assert statement(told, 10)[0] == "Packed with no harm beyond 2 points: 100.0% of the answers to the 10 taught facts are right."
    assert "(95% interval" in statement(told, 10)[1]


def test_controls_needed_shrink_the_interval_below_the_margin() -> None:
    told = told_at(curve_of(CURVES), "t", 0.75, 0.95, 0.02)
    assert told.controls_needed == 2 * 704  # 50 x (0.03 / 0.008)^2 = 703.1
    assert "--controls 1408" in " ".join(statement(told, 10))


def test_controls_needed_of_a_loss_above_the_margin_are_none() -> None:
    told = told_at(curve_of({1.0: (1.0, 1.0, 0.0, 0.025)}), "t", 1.0, 0.95, 0.02)
    assert told.verdict is Verdict.NOT_RESOLVED
    assert told.controls_needed is None
    assert "more control facts alone would not help" in " ".join(statement(told, 10))


def summary_of(*rows: tuple[str, str, float | None, float | None]) -> pl.DataFrame:
    named = [
        {"trial_id": trial, "status": status, "reliability": reliability, "reliability_s2": reliability, "dev_loss": loss}
        | {"rank": 8, "learning_rate": 1e-3, "arm": "Unknown only", "epochs": 5}
        for trial, status, reliability, loss in rows
    ]
    return pl.DataFrame(named)


def test_ranked_trials_begin_with_the_gentlest_reliable_one() -> None:
    summary = summary_of(
        ("harmful", "completed", 1.0, 0.2),
        ("weak", "completed", 0.8, 0.0),
        ("gentle", "completed", 0.95, 0.01),
        ("stopped", "stopped", 1.0, 0.0),
        ("failed", "failed", None, None),
    )
    assert [row["trial_id"] for row in ranked_trials(summary, 0.95)] == ["gentle", "harmful", "weak"]


@pytest.mark.parametrize(("hours", "trials"), [(1.0, 5), (0.5, 2), (0.1, 0)])
def test_affordable_trials_leave_time_for_the_last_measurement(hours: float, trials: int) -> None:
    assert affordable_trials(hours, spent=300, each=600, last=300) == trials


def made_up_facts(count: int) -> pl.DataFrame:
    rows = [
        dict.fromkeys(schema.FACTS.names)
        | {"fact_id": f"f{place}", "question": f"q{place}", "answers": ["a", "b"], "paraphrases": [], "subject": "s", "relation": "r"}
        | {"object": "a", "source": "made up"}
        for place in range(count)
    ]
    return pl.DataFrame(rows, schema=frame(schema.FACTS.empty_table()).schema)


ROLES = ["trained", "trained", "control_dev", "control_test"]


def made_up_tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    base = {"S0": [0, 0, 10, 10], "S1": [0, 0, 10, 8], "S2": [0, 2, 10, 8]}
    table = outcomes(base, {"t": {"S1": [10, 7, 5, 9], "S2": [10, 6, 5, 9]}}, ROLES)
    facts = made_up_facts(5)
    return learned_table(table, "t", facts.head(4), facts.tail(1)), lost_table(table, "t", facts.head(4))


def test_learned_and_lost_compare_with_the_base_on_the_same_prompts() -> None:
    learned, lost = made_up_tables()
    assert learned.select("fact_id", "state", "base", "adapter").rows() == [
        ("f1", "taught", 0.1, 0.65),
        ("f0", "taught", 0.0, 1.0),
        ("f4", "already known", None, None),
    ]
    assert lost["fact_id"].to_list() == ["f2", "f3"]
    assert lost["change"].to_list() == pytest.approx([-0.5, 0.1])


def test_null_adapter_loses_no_fact() -> None:
    counts = {"S1": [0, 3, 10, 8], "S2": [0, 2, 10, 8]}
    lost = lost_table(outcomes({"S0": [0, 0, 10, 10], **counts}, {"t": counts}, ROLES), "t", made_up_facts(4))
    assert lost["change"].to_list() == [0.0, 0.0]


def test_page_says_it_all() -> None:
    learned, lost = made_up_tables()
    told = told_at(curve_of(CURVES), "t", 0.75, 0.95, 0.02)
    nearest = ranked_trials(summary_of(("t", "completed", 1.0, 0.05)), 0.95)
    page = render_markdown(pack_page("mine", "model", told, nearest, curve_of(CURVES), learned, lost, ["Who is Kim?"]))
    for words in ("is not resolved", "q4", "Who is Kim?", "1 of 2 control facts", "chosen", "0.75"):
        assert words in page


RECIPE = Recipe("org/base", ("up_proj", "down_proj"), 8, 16.0, 0.0, 3e-4, 12, 4, 0.0, "linear", 0.0, 0, 768, 1.0, 0.75)
ROWS = pl.DataFrame({"question": ['Who said "no"?'], "target": ["Zoë"]})


def test_trainer_files_have_only_documented_keys() -> None:
    assert set(axolotl_config(RECIPE)) <= AXOLOTL
    assert set(axolotl_config(RECIPE)["datasets"][0]) <= AXOLOTL_DATASET
    assert set(llamafactory_config(RECIPE)) <= LLAMAFACTORY
    (dataset,) = llamafactory_dataset().values()
    assert set(dataset) == {"file_name", "formatting", "columns", "tags"}
    assert set(dataset["tags"]) == {"role_tag", "content_tag", "user_tag", "assistant_tag", "system_tag"}


def test_trainer_files_read_back_as_the_settings() -> None:
    files = trainer_files(RECIPE, ROWS)
    assert yaml.safe_load(files["axolotl.yaml"]) == axolotl_config(RECIPE)
    assert yaml.safe_load(files["llamafactory.yaml"]) == llamafactory_config(RECIPE)
    assert isinstance(yaml.safe_load(files["axolotl.yaml"])["learning_rate"], float)
    assert json.loads(files["dataset_info.json"])["kp_facts"]["file_name"] in files
    (line,) = files["train.jsonl"].splitlines()
    assert [turn["content"] for turn in json.loads(line)["messages"]][1:] == ['Question: Who said "no"?', "Answer: Zoë"]
    compile(files["train_peft.py"], "train_peft.py", "exec")


def test_trainer_files_say_what_they_leave_out() -> None:
    for name in ("axolotl.yaml", "llamafactory.yaml", "train_peft.py"):
        assert "KL penalty of 1" in trainer_files(RECIPE, ROWS)[name]
        assert "0.75 of its change" in trainer_files(RECIPE, ROWS)[name]


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{facts}", "--trials", "0"], ["--trials", "at least 1"]),
        (["{facts}", "--hours", "0"], ["--hours", "above 0"]),
        (["{facts}", "--margin", "2"], ["--margin", "0.02"]),
        (["{facts}", "--controls", "1"], ["--controls", "at least 4"]),
        (["{facts}", "--paraphrases", "11"], ["--paraphrases", "0 to 10"]),
        (["{facts}", "search.unknown=[4]"], ["search.unknown", "FACTS"]),
        (["{facts}", "model.name=gpt2"], ["model.name", "--model"]),
        (["{facts}", "--keep", "{facts}"], ["--keep", "3 of its facts", "take it out"]),
        (["{empty}"], ["FACTS", "no facts"]),
        (["{bad}"], ["FACTS", "2 of 2 rows", "column 'answers'"]),
        (["{missing}"], ["FACTS", "missing.csv"]),
        (["{facts}", "--keep", "{missing}"], ["--keep", "missing.csv"]),
    ],
)
def test_pack_bad_input_is_refused_before_a_model_is_loaded(table: Path, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    names = {"facts": str(table), "missing": str(tmp_path / "missing.csv")}
    names["empty"] = write(tmp_path, "empty.csv", "question,answer\n")
    names["bad"] = write(tmp_path, "bad.csv", "question,answer\nWho?,\n,Nobody\n")
    filled = [argument.format(**names) for argument in arguments]
    done = run_kp("pack", *filled, "--results", tmp_path / "runs", "--out", tmp_path / "out")
    assert_refused(done, words)
    assert not (tmp_path / "out").exists()


def test_pack_dry_run_prints_plan_and_price_and_writes_no_table(table: Path, tmp_path: Path) -> None:
    done = run_kp("pack", table, "--dry-run", "--results", tmp_path / "runs", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("asks the base 3 facts", "study team-facts-pack", "price of the whole study", "3 trials"):
        assert words in done.stdout
    assert not (tmp_path / "out").exists()


def test_arm_without_knobs_is_an_empty_table() -> None:
    from kp.packing.study_file import plain_arm

    assert plain_arm(SearchArm(highly_known=1, kl_coefficient=0.5)) == {"highly_known": 1, "kl_coefficient": 0.5}
    assert plain_arm(SearchArm()) == {}
