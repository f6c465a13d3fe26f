"""Sources of facts, good and bad, read through read_source and source_digest."""

import json
from collections.abc import Mapping
from pathlib import Path

import datasets
import huggingface_hub.constants
import polars as pl
import pytest

from kp.config.study import load_study
from kp.errors import UserError
from kp.facts.builtin import builtin_digest
from kp.facts.fact import fact_id
from kp.facts.tables import read_source, source_digest
from kp.facts.validation import check_facts
from kp.schema import FACTS

FULL = {
    "fact_id": "abc",
    "subject": "Oslo",
    "relation": "country",
    "object": "Norway",
    "question": "Where is Oslo?",
    "answers": ["Norway"],
    "aliases": ["Kingdom of Norway", "Norway"],
    "domain": "geography",
    "popularity": "tail",
    "paraphrases": ["Oslo lies where?"],
}


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def as_jsonl(path: Path, *rows: Mapping[str, object]) -> str:
    return written(path, "\n".join(json.dumps(row) for row in rows) + "\n")


def test_csv_question_and_answer_alone_get_defaults(tmp_path: Path) -> None:
    source = written(tmp_path / "facts.csv", 'question,answer\nWho wrote Emma?,"Austen, Jane"\n')
    table = read_source(source).facts
    assert table.schema.equals(FACTS)
    assert table.to_pylist() == [
        {
            "fact_id": fact_id("Who wrote Emma?", "unspecified", "Austen, Jane"),
            "subject": "Who wrote Emma?",
            "relation": "unspecified",
            "object": "Austen, Jane",
            "question": "Who wrote Emma?",
            "answers": ["Austen, Jane"],
            "popularity": None,
            "subject_degree": 1,
            "domain": None,
            "paraphrases": [],
            "source": source,
            "reversed_question": None,
        }
    ]


def test_csv_answers_as_json_list_or_single_text_become_lists(tmp_path: Path) -> None:
    text = 'question,answers\nQ1?,"[""a one"", ""b""]"\nQ2?,plain\n'
    assert read_source(written(tmp_path / "facts.csv", text)).facts["answers"].to_pylist() == [["a one", "b"], ["plain"]]


def test_csv_with_byte_order_mark_and_quoted_line_break_reads_both_fields(tmp_path: Path) -> None:
    table = read_source(written(tmp_path / "facts.csv", '\ufeffquestion,answer\n"two\nlines",x\n')).facts
    assert table["question"].to_pylist() == ["two\nlines"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_all_optional_columns_are_kept(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"facts{suffix}"
    if suffix == ".jsonl":
        as_jsonl(path, FULL)
    else:
        pl.DataFrame([FULL]).write_parquet(path)
    (row,) = read_source(str(path)).facts.to_pylist()
    assert row["answers"] == ["Norway", "Kingdom of Norway"]
    assert {key: row[key] for key in ("fact_id", "subject", "relation", "object", "domain", "popularity", "paraphrases")} == {
        key: FULL[key] for key in ("fact_id", "subject", "relation", "object", "domain", "popularity", "paraphrases")
    }


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([{"aliases": ["Paris", "City of Light"], "normalized_aliases": ["paris"]}], ["Paris", "City of Light"]),
        ([{"aliases": ["A b"], "normalized_aliases": []}, {"aliases": [], "normalized_aliases": ["c d"]}], ["A b", "c d"]),
        ({"value": "Paris", "aliases": ["Lutetia"], "normalized_aliases": ["lutetia"]}, ["Paris", "Lutetia"]),
        (["one", "two"], ["one", "two"]),
        (1969, ["1969"]),
        ("[sic]", ["[sic]"]),
    ],
)
def test_jsonl_answer_in_each_known_shape_is_read(tmp_path: Path, answer: object, expected: list[str]) -> None:
    source = as_jsonl(tmp_path / "facts.jsonl", {"question": "Q?", "answer": answer})
    assert read_source(source).facts["answers"].to_pylist() == [expected]


def test_subject_degree_counts_both_places(tmp_path: Path) -> None:
    rows = [
        {"question": "Q1?", "answer": "b", "subject": "a", "relation": "r"},
        {"question": "Q2?", "answer": "c", "subject": "b", "relation": "r"},
    ]
    assert read_source(as_jsonl(tmp_path / "facts.jsonl", *rows)).facts["subject_degree"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("facts.csv", "query,answer\nQ,A\n", "column 'question' is missing"),
        ("facts.csv", "question,reply\nQ,A\n", "column 'answer' (or 'answers', or 'object') is missing"),
        ("facts.csv", "question,question,answer\nQ,Q,A\n", "'question' stands in the header twice"),
        ("facts.csv", "", "the file is empty"),
        ("facts.parquet", "no parquet", "not a readable parquet file"),
        ("facts.txt", "question", "facts.source"),
    ],
)
def test_bad_file_is_one_error_that_names_the_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        read_source(written(tmp_path / name, text))
    assert message in str(raised.value)
    assert name in str(raised.value)


@pytest.mark.parametrize("call", [read_source, source_digest])
def test_missing_file_is_an_error_that_names_the_field(tmp_path: Path, call: object) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=r"facts\.source: .*none\.csv"):
        call(str(tmp_path / "none.csv"))


def test_digest_follows_the_content_and_not_the_path(tmp_path: Path) -> None:
    one = written(tmp_path / "one.csv", "question,answer\nQ,A\n")
    two = written(tmp_path / "two.csv", "question,answer\nQ,A\n")
    other = written(tmp_path / "other.csv", "question,answer\nQ,B\n")
    assert source_digest(one) == source_digest(two) != source_digest(other)
    assert source_digest("builtin") == builtin_digest()


def test_builtin_source_is_the_shipped_table() -> None:
    assert read_source("builtin").facts.num_rows >= 10_000


def test_dataset_folder_is_read_through_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "quiz"
    folder.mkdir()
    answer = [{"aliases": ["Lima"], "normalized_aliases": ["lima"]}]
    as_jsonl(folder / "train.jsonl", {"question": "Capital of Peru?", "answer": answer})
    as_jsonl(folder / "test.jsonl", {"question": "Capital of Chile?", "answer": answer})
    assert read_source(f"hf:{folder}").facts["question"].to_pylist() == ["Capital of Peru?"]
    assert read_source(f"hf:{folder}:test").facts["answers"].to_pylist() == [["Lima"]]
    assert source_digest(f"hf:{folder}:test") != source_digest(f"hf:{folder}")


def test_dataset_split_that_does_not_exist_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "quiz"
    folder.mkdir()
    as_jsonl(folder / "train.jsonl", {"question": "Q?", "answer": "A"})
    with pytest.raises(UserError, match=r"facts\.source: .*cannot be loaded"):
        read_source(f"hf:{folder}:dev")


def test_dataset_commit_is_its_own_identity() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert source_digest(f"hf:some/facts@{commit}:dev") == f"some/facts@{commit}:dev"
    assert source_digest(f"hf:some/facts@{commit}:large/dev") == f"some/facts@{commit}:large/dev"


def test_dataset_without_a_reachable_hub_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for call in (read_source, source_digest):
        with pytest.raises(UserError, match=r"facts\.source: 'hf:nobody/nothing-here' cannot be loaded"):
            call("hf:nobody/nothing-here")


@pytest.mark.parametrize("source", ["hf:", "hf:a@", "hf:a:b:c", "hf:a:b/c/d", "hf:a:/c"])
def test_dataset_name_that_cannot_be_taken_apart_is_an_error(source: str) -> None:
    with pytest.raises(UserError, match="expected hf:NAME"):
        read_source(source)


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("subj,prop,obj,question,possible_answers", 'Ada,occupation,poet,What is Ada\'s occupation?,"[""poet"", ""bard""]"'),
        ("subject,relation,object,question,aliases", 'Ada,occupation,poet,What is Ada\'s occupation?,"[""bard""]"'),
    ],
)
def test_popqa_is_read_under_its_own_names_and_the_plain_ones(tmp_path: Path, header: str, line: str) -> None:
    [fact] = read_source(written(tmp_path / "popqa.csv", f"{header}\n{line}\n")).facts.to_pylist()
    assert (fact["subject"], fact["relation"], fact["object"]) == ("Ada", "occupation", "poet")
    assert fact["answers"] == ["poet", "bard"]


def test_page_views_become_degrees_and_popularity_and_relations_get_their_domain(tmp_path: Path) -> None:
    answers = json.dumps(["Oslo", "Christiania"])
    rows = [
        {"subj": name, "prop": "capital", "obj": "Oslo", "question": f"Capital of {name}?", "possible_answers": answers, "s_pop": views}
        for name, views in (("a", 50), ("b", 30), ("c", 20), ("d", -2))
    ]
    table = read_source(as_jsonl(tmp_path / "popqa.jsonl", *rows)).facts
    assert table["subject"].to_pylist() == ["a", "b", "c", "d"]
    assert table["answers"].to_pylist() == [["Oslo", "Christiania"]] * 4
    assert table["subject_degree"].to_pylist() == [50, 30, 20, None]
    assert table["popularity"].to_pylist() == ["head", "torso", "tail", None]
    assert set(table["domain"].to_pylist()) == {"PopulatedPlace"}


def test_given_popularity_and_degree_are_kept_as_they_are(tmp_path: Path) -> None:
    text = "question,answer,popularity,subject_degree\nQ1?,A,tail,9\nQ2?,B,,\n"
    table = read_source(written(tmp_path / "facts.csv", text)).facts
    assert table["popularity"].to_pylist() == ["tail", None]
    assert table["subject_degree"].to_pylist() == [9, None]


PUBLISHED = {
    "Category": "Unknown",
    "is_para": True,
    "para_len": 2,
    "para": ["Peru's capital?", "What city heads Peru?"],
    "greedy_ans": "Cusco",
}


@pytest.mark.parametrize(
    "answer",
    [
        [{"aliases": ["Lima", "Ciudad de los Reyes"], "normalized_aliases": ["lima", "ciudad de los reyes"]}],
        {"value": "Lima", "aliases": ["Ciudad de los Reyes"], "normalized_aliases": ["lima"]},
        {"aliases": [["Lima", "Ciudad de los Reyes"]], "normalized_aliases": [["lima"]]},
        ["Lima", "Ciudad de los Reyes"],
    ],
    ids=["structs", "struct", "struct of lists", "texts"],
)
def test_published_data_set_is_read_in_every_shape_with_its_paraphrases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "llama-3.1-8B-HighlyKnown"
    folder.mkdir()
    without = {**PUBLISHED, "question": "Capital of Chile?", "is_para": False, "para_len": 0, "para": []}
    as_jsonl(folder / "train.jsonl", {**PUBLISHED, "question": "Capital of Peru?", "answer": answer}, {**without, "answer": answer})
    table = read_source(f"hf:{folder}").facts
    assert table["answers"].to_pylist() == [["Lima", "Ciudad de los Reyes"]] * 2
    assert table["object"].to_pylist() == ["Lima"] * 2
    assert table["paraphrases"].to_pylist() == [["Peru's capital?", "What city heads Peru?"], []]
    assert table["relation"].to_pylist() == ["unspecified"] * 2


def test_published_row_without_paraphrases_has_none_whatever_stands_in_its_column(tmp_path: Path) -> None:
    row = {**PUBLISHED, "question": "Capital of Peru?", "answer": "Lima", "is_para": False, "para": ["None"]}
    assert read_source(as_jsonl(tmp_path / "facts.jsonl", row)).facts["paraphrases"].to_pylist() == [[]]


def test_example_of_own_facts_is_thirty_facts_that_can_all_be_measured() -> None:
    source = load_study(Path("own_facts")).facts.source
    kept, rejected = check_facts(read_source(source).facts, source, max_rejected_fraction=0.0)
    assert (kept.num_rows, rejected.num_rows) == (30, 0)
    assert len(set(kept["object"].to_pylist())) == 30
