"""Shots: their sources, the sets they make, and those that give a studied fact away."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import datasets
import huggingface_hub.constants
import polars as pl
import pytest

from kp.config.derived import asked_shot_sets, base_shot_sets
from kp.config.study import StudyConfig
from kp.errors import MissingSourceError, UserError
from kp.facts.builtin import load_builtin
from kp.facts.shots import MOST_SHOTS, load_shots, replaced_table, shot_sets, shots_digest, shots_identity
from kp.metrics.matching import normalise
from kp.prompts import Shot, ShotSets
from kp.schema import REPLACED_SHOTS
from kp.study.building import build_graph
from kp.study.identities import Identities
from kp.vocabulary import Leak, ShotSet

TRIVIAQA = Path(__file__).parents[3] / "shared" / "data" / "triviaqa_sample.jsonl.gz"

THREE = asked_shot_sets(0)
FIVE = asked_shot_sets(2)
BUILTIN = load_shots("builtin", THREE).shots

NO_FACTS: list[dict[str, object]] = []


def facts(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    texts, lists = pl.String(), pl.List(pl.String)
    schema = pl.Schema({"fact_id": texts, "question": texts, "subject": texts, "answers": lists, "paraphrases": lists})
    defaults = {"question": "q", "subject": "s", "answers": ["a"], "paraphrases": []}
    return pl.DataFrame([{"fact_id": f"f{number}", **defaults, **row} for number, row in enumerate(rows)], schema=schema)


def records(count: int) -> list[dict[str, object]]:
    return [{"question": f"Question number {number}?", "answer": f"Answer {number}"} for number in range(count)]


def trivia(count: int) -> list[dict[str, object]]:
    """Rows as the Hub's TriviaQA has them."""
    return [
        {
            "question": f"Question number {number}?",
            "answer": {"value": f"Fiji {number}", "aliases": [f"Viti {number}"], "normalized_aliases": [f"fidji {number}"]},
        }
        for number in range(count)
    ]


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    content = "\n".join(json.dumps(row) for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def shots_of(sets: ShotSets) -> list[Shot]:
    return [shot for prompts in sets.values() for prompt in prompts for shot in prompt]


# Sets


def test_shot_sets_of_builtin_shots_are_disjoint_ten_prompts_of_four() -> None:
    sets, replaced = shot_sets(BUILTIN, facts(NO_FACTS), THREE)
    assert list(sets) == [ShotSet.S0, ShotSet.S1, ShotSet.S2]
    assert replaced == []
    assert all(len(prompts) == 10 and all(len(prompt) == 4 for prompt in prompts) for prompts in sets.values())
    assert shots_of(sets) == list(BUILTIN[:120])
    assert len(set(shots_of(sets))) == 120


def test_asked_shot_sets_follow_the_repeat_measurements() -> None:
    assert [shot_set.value for shot_set in asked_shot_sets(0)] == ["S0", "S1", "S2"]
    assert [shot_set.value for shot_set in asked_shot_sets(2)] == ["S0", "S1", "S2", "S3", "S4"]
    assert asked_shot_sets(7) == tuple(ShotSet)


def test_shot_sets_with_repeat_measurements_leave_the_first_three_as_they_are(tmp_path: Path) -> None:
    shots = load_shots(write(tmp_path / "shots.jsonl", records(420)), tuple(ShotSet)).shots
    leaking = facts([{"question": shots[number].question} for number in (3, 45, 121, 123, 419)])
    few, gone = shot_sets(shots, leaking, THREE)
    many, gone_of_many = shot_sets(shots, leaking, tuple(ShotSet))
    assert {name: many[name] for name in few} == few
    assert gone_of_many[: len(gone)] == gone
    assert list(many) == list(ShotSet)
    assert len(set(shots_of(many))) == 400
    # 120 and 122 stand in for 3 and 45, so S3 begins with 124 and has no hole.
    assert few[ShotSet.S0][0][3] == shots[120]
    assert few[ShotSet.S1][1][1] == shots[122]
    assert [shot for prompt in many[ShotSet.S3] for shot in prompt] == list(shots[124:164])


@pytest.mark.parametrize(
    ("fact", "leak"),
    [
        ({"question": "which planet is closest to the sun"}, Leak.QUESTION),
        ({"paraphrases": ["Say:", "Which planet is closest to the sun?"]}, Leak.QUESTION),
        ({"subject": "the Sun", "answers": ["Helios", "mercury"]}, Leak.SUBJECT_AND_ANSWER),
    ],
    ids=["same question", "same paraphrase", "subject and alias"],
)
def test_shot_sets_leaking_shot_is_replaced_by_the_first_spare_and_reported(fact: dict[str, object], leak: Leak) -> None:
    sets, [gone] = shot_sets(BUILTIN, facts([{}, fact]), THREE)
    assert (gone.shot, gone.new_shot, gone.leak, gone.fact_id) == (BUILTIN[0], BUILTIN[120], leak, "f1")
    assert (gone.shot_set, gone.prompt_index) == (ShotSet.S0, 0)
    assert sets[ShotSet.S0][0] == [BUILTIN[120], *BUILTIN[1:4]]


def test_shot_sets_subject_named_in_the_possessive_is_a_leak(tmp_path: Path) -> None:
    rows = [{"question": "What is Oman's capital?", "answer": "Muscat"}, *records(120)]
    shots = load_shots(write(tmp_path / "shots.jsonl", rows), THREE).shots
    _, [gone] = shot_sets(shots, facts([{"subject": "Oman", "answers": ["Muscat"]}]), THREE)
    assert gone.shot == shots[0]


@pytest.mark.parametrize(
    "fact",
    [
        {"subject": "Sun", "answers": ["G2V"]},
        {"subject": "Su", "answers": ["Mercury"]},
        {"subject": "Neptune", "answers": ["Mercury"]},
    ],
    ids=["subject alone", "part of a word", "answer alone"],
)
def test_shot_sets_subject_or_answer_alone_is_no_leak(fact: dict[str, object]) -> None:
    _, replaced = shot_sets(BUILTIN, facts([fact]), THREE)
    assert replaced == []


def test_shot_sets_leaking_spare_is_passed_over_and_reported_at_the_same_place() -> None:
    sets, replaced = shot_sets(BUILTIN, facts([{"question": BUILTIN[5].question}, {"question": BUILTIN[120].question}]), THREE)
    assert [gone.shot for gone in replaced] == [BUILTIN[5], BUILTIN[120]]
    assert {(gone.shot_set, gone.prompt_index, gone.new_shot) for gone in replaced} == {(ShotSet.S0, 1, BUILTIN[121])}
    assert sets[ShotSet.S0][1][1] == BUILTIN[121]


def test_shot_sets_without_spares_left_is_an_error_naming_the_shot() -> None:
    with pytest.raises(UserError, match=r"S0 to S2 need 120, and of the 120 there are 1 give .* 'Which planet is closest"):
        shot_sets(BUILTIN[:120], facts([{"question": BUILTIN[0].question}]), THREE)


def test_builtin_shots_give_away_no_builtin_fact() -> None:
    _, replaced = shot_sets(BUILTIN, pl.DataFrame(pl.from_arrow(load_builtin())), THREE)
    assert replaced == []


def test_replaced_table_says_where_why_and_by_what() -> None:
    fact = {"subject": "Sun", "answers": ["Mercury"]}
    table = replaced_table(shot_sets(BUILTIN, facts([fact]), THREE)[1])
    assert table.schema.equals(REPLACED_SHOTS)
    assert table.to_pylist() == [
        {
            "shot_set": "S0",
            "prompt_index": 0,
            "question": BUILTIN[0].question,
            "answer": "Mercury",
            "leak": "subject_and_answer",
            "fact_id": "f0",
            "new_question": BUILTIN[120].question,
            "new_answer": BUILTIN[120].answer,
        }
    ]
    assert replaced_table([]).schema.equals(REPLACED_SHOTS)


# A user's file


@pytest.mark.parametrize("name", ["shots.jsonl", "shots.jsonl.gz"])
def test_load_shots_from_file_keeps_the_order_and_all_rows(tmp_path: Path, name: str) -> None:
    pool = load_shots(write(tmp_path / name, records(MOST_SHOTS + 1)), THREE)
    assert pool.shots[120] == Shot("Question number 120?", "Answer 120")
    assert len(pool.shots) == MOST_SHOTS + 1
    assert pool.passed_over == {}


def test_load_shots_answers_list_gives_its_first(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"question": " Where? ", "answers": [" Oslo ", "Kristiania"]}, *records(119)]
    assert load_shots(write(tmp_path / "shots.jsonl", rows), THREE).shots[0] == Shot("Where?", "Oslo")


BAD_ROWS = {
    "no answer": ({"question": "Why?"}, "row 8: 'answer' "),
    "no question": ({"answer": "x"}, "row 8: 'question' is missing"),
    "empty question": ({"question": " ", "answer": "x"}, "row 8: 'question' is empty"),
    "empty answers": ({"question": "Why?", "answers": []}, "row 8: 'answer' is empty"),
    "answer that is no text": ({"question": "Why?", "answer": True}, "row 8: column 'answer'"),
    "struct of another kind": ({"question": "Why?", "answer": {"name": "x"}}, "row 8: column 'answer'"),
    "question asked before": ({"question": "question number 3", "answer": "x"}, "row 8: the question of row 4"),
    "long question": ({"question": "x" * 301, "answer": "x"}, "row 8: 'question' is longer than 300 characters"),
    "long answer": ({"question": "Why?", "answer": "x" * 301}, "row 8: 'answer' is longer than 300 characters"),
    "control character": ({"question": "Why\x07?", "answer": "x"}, "row 8: 'question' holds a control character"),
    "line break": ({"question": "Why?", "answer": "a\nb"}, "row 8: 'answer' holds a control character"),
}


@pytest.mark.parametrize(("row", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_load_shots_bad_row_is_an_error_naming_file_and_row(tmp_path: Path, row: dict[str, object], message: str) -> None:
    rows = records(121)
    rows[7] = row
    with pytest.raises(UserError) as raised:
        load_shots(write(tmp_path / "shots.jsonl", rows), THREE)
    assert f"shots.jsonl: {message}" in str(raised.value)
    assert raised.value.field == "categorise.shots"


def test_load_shots_too_few_rows_is_an_error_with_the_counts(tmp_path: Path) -> None:
    source = write(tmp_path / "shots.jsonl", records(199))
    assert len(load_shots(source, asked_shot_sets(1)).shots) == 199
    with pytest.raises(UserError, match=r"categorise\.shots: .*: 199 shots, at least 200 are needed for S0 to S4"):
        load_shots(source, FIVE)
    with pytest.raises(UserError, match=r"'builtin': 132 shots, at least 160 .*categorise\.repeat_measurements"):
        load_shots("builtin", asked_shot_sets(1))


def test_load_shots_empty_file_has_no_shots(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="0 shots, at least 120"):
        load_shots(write(tmp_path / "shots.jsonl", []), THREE)


def test_load_shots_broken_json_is_an_error_naming_the_line(tmp_path: Path) -> None:
    (tmp_path / "shots.jsonl").write_text('{"question": "a", "answer": "b"}\n{oops\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"^categorise\.shots: .*row 2: not valid JSON"):
        load_shots(str(tmp_path / "shots.jsonl"), THREE)


@pytest.mark.parametrize("source", ["nowhere.jsonl", "shots.csv"])
def test_load_shots_unknown_source_is_an_error_naming_it(source: str) -> None:
    with pytest.raises(UserError, match=rf"categorise\.shots: .*{source}"):
        load_shots(source, THREE)


# TriviaQA


@pytest.mark.parametrize("name", ["trivia.jsonl", "trivia.jsonl.gz"])
def test_load_shots_triviaqa_answer_is_the_value_as_it_is_written(tmp_path: Path, name: str) -> None:
    assert load_shots(write(tmp_path / name, trivia(120)), THREE).shots[7] == Shot("Question number 7?", "Fiji 7")


def test_load_shots_triviaqa_without_value_takes_the_first_alias_and_never_a_normalised_one(tmp_path: Path) -> None:
    rows = trivia(122)
    rows[0]["answer"] = {"value": "", "aliases": ["Balletti", "Ballets"], "normalized_aliases": ["balletti"]}
    rows[1]["answer"] = {"value": "", "aliases": [], "normalized_aliases": ["fidji"]}
    pool = load_shots(write(tmp_path / "trivia.jsonl", rows), THREE)
    assert [shot.answer for shot in pool.shots[:2]] == ["Balletti", "Fiji 2"]
    assert pool.passed_over == {"'answer' is empty": 1}


def test_load_shots_triviaqa_unusable_rows_are_passed_over_and_counted(tmp_path: Path) -> None:
    rows = trivia(130)
    rows[1]["question"] = "question number 0"
    rows[2]["question"] = "QUESTION number 0?!"
    rows[3]["question"] = "x" * 301
    rows[4]["question"] = "Two\nlines?"
    rows[5]["answer"] = {"value": "<unk>", "aliases": [], "normalized_aliases": []}
    pool = load_shots(write(tmp_path / "trivia.jsonl", rows), THREE)
    assert [shot.answer for shot in pool.shots] == [f"Fiji {number}" for number in (0, *range(6, 130))]
    assert pool.passed_over == {
        "'question' is that of an earlier row": 2,
        "'question' is longer than 300 characters": 1,
        "'question' holds a control character": 1,
        "'answer' is empty": 1,
    }


def test_load_shots_triviaqa_without_answers_says_what_was_passed_over(tmp_path: Path) -> None:
    rows = [row | {"answer": {"value": "<unk>", "aliases": [], "normalized_aliases": []}} for row in trivia(500)]
    with pytest.raises(UserError, match=r"0 shots, at least 120 .*; 500 rows passed over: 'answer' is empty"):
        load_shots(write(tmp_path / "trivia.jsonl", rows), THREE)


def test_load_shots_triviaqa_longer_than_any_study_needs_is_read_no_further(tmp_path: Path) -> None:
    source = Path(write(tmp_path / "trivia.jsonl", trivia(MOST_SHOTS)))
    digest = shots_identity(str(source), THREE)
    source.write_text(source.read_text(encoding="utf-8") + "\n{oops", encoding="utf-8")
    assert shots_identity(str(source), THREE) == digest


@pytest.mark.skipif(not TRIVIAQA.exists(), reason="the TriviaQA sample is not on this machine")
def test_load_shots_triviaqa_sample_fills_ten_disjoint_sets() -> None:
    pool = load_shots(str(TRIVIAQA), tuple(ShotSet))
    builtin = pl.DataFrame(pl.from_arrow(load_builtin()))
    sets, replaced = shot_sets(pool.shots, builtin, tuple(ShotSet))
    used = shots_of(sets)
    assert len({normalise(shot.question) for shot in used}) == 400
    assert not {gone.shot for gone in replaced} & set(used)
    assert used[0] == Shot("Brunswick, Lancastrian and Pearl Pickler are types of which vegetable?", "Onion")


# The Hub


@pytest.fixture
def dataset_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `datasets` reads, with two configs and TriviaQA's rows; one of them asks a question again."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "trivia_qa"
    folder.mkdir()
    write(folder / "nocontext.jsonl", [*trivia(125), *trivia(1)])
    write(folder / "other.jsonl", records(120))
    parts = {"rc.nocontext": "nocontext.jsonl", "plain": "other.jsonl"}
    listed = "".join(f"- config_name: {n}\n  data_files:\n  - split: train\n    path: {file}\n" for n, file in parts.items())
    (folder / "README.md").write_text(f"---\nconfigs:\n{listed}---\n", encoding="utf-8")
    return folder


def test_load_shots_dataset_config_and_split_are_read_through_datasets(dataset_folder: Path) -> None:
    pool = load_shots(f"hf:{dataset_folder}:rc.nocontext/train", THREE)
    assert pool.shots[0] == Shot("Question number 0?", "Fiji 0")
    assert len(pool.shots) == 125
    assert pool.passed_over == {"'question' is that of an earlier row": 1}
    assert load_shots(f"hf:{dataset_folder}:plain/train", THREE).shots[0].answer == "Answer 0"


def test_load_shots_dataset_config_that_does_not_exist_is_an_error(dataset_folder: Path) -> None:
    with pytest.raises(MissingSourceError, match=r"categorise\.shots: 'hf:.*:rc/train' cannot be loaded"):
        load_shots(f"hf:{dataset_folder}:rc/train", THREE)


def test_load_shots_without_a_reachable_hub_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for call in (load_shots, shots_identity):
        with pytest.raises(MissingSourceError, match=r"categorise\.shots: 'hf:nobody/nothing-here:rc/train' cannot be loaded"):
            call("hf:nobody/nothing-here:rc/train", THREE)


# Identity


def test_shots_identity_of_a_dataset_commit_needs_no_network() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert shots_identity(f"hf:some/shots@{commit}:rc.nocontext/train", THREE) == f"some/shots@{commit}:rc.nocontext/train"


def test_shots_digest_changes_with_text_and_order() -> None:
    changed = [replace(BUILTIN[0], answer="Venus"), *BUILTIN[1:]]
    assert len({shots_digest(BUILTIN), shots_digest(changed), shots_digest(BUILTIN[::-1])}) == 3
    assert shots_digest(BUILTIN) == shots_identity("builtin", THREE)


def test_shots_identity_is_of_the_shots_and_not_of_the_file_or_the_sets(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", records(200))
    two = write(tmp_path / "two.jsonl.gz", records(200))
    assert shots_identity(one, THREE) == shots_identity(two, FIVE)


def study(**categorise: object) -> StudyConfig:
    return StudyConfig.model_validate({"name": "small", "training": {"lora_alpha": 16}, "categorise": categorise})


def test_study_without_repeat_measurements_is_the_same_as_one_that_does_not_name_them() -> None:
    identities = Identities("model", "facts", "shots")
    plain, none, two = (build_graph(study(**knobs), identities) for knobs in ({}, {"repeat_measurements": 0}, {"repeat_measurements": 2}))
    assert none == plain
    assert plain.steps["categorise"].literals["shot_sets"] == ["S0", "S1", "S2"]
    assert [two.steps[f"repeat/S{number}"].literals["shot_sets"] for number in (3, 4)] == [["S3"], ["S4"]]
    assert two.steps["repeat/S3"].fingerprint != two.steps["repeat/S4"].fingerprint
    assert base_shot_sets(study(repeat_measurements=7)) == tuple(ShotSet)


def test_study_that_measures_the_base_once_more_makes_nothing_else_again() -> None:
    none, two, three = (build_graph(study(repeat_measurements=count), Identities("model", "facts", "shots")) for count in (0, 2, 3))
    for fewer, more in ((none, two), (two, three)):
        assert {name: more.steps[name].fingerprint for name in fewer.steps} == {name: s.fingerprint for name, s in fewer.steps.items()}
        assert [trial.trial_id for trial in more.trials] == [trial.trial_id for trial in fewer.trials]
        assert more.evaluation_steps() == fewer.evaluation_steps()
    assert three.steps.keys() - none.steps.keys() == {"repeat/S3", "repeat/S4", "repeat/S5"}


def test_study_with_other_shots_looks_for_leaks_again() -> None:
    first, second = (build_graph(study(), Identities("model", "facts", shots)) for shots in ("one", "two"))
    assert first.steps["facts"].fingerprint != second.steps["facts"].fingerprint
