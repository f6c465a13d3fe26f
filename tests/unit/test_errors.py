"""An error that a user sees carries the config field or option at fault, the one that the user wrote."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kp import schema
from kp.config.derived import PARAPHRASER_FIELD
from kp.config.faults import InvalidStudyError
from kp.config.study import FactsConfig, ModelConfig, StudyConfig, load_study
from kp.errors import MissingSourceError, UserError
from kp.facts.dump.companions import companion_digest, triples_of
from kp.facts.replay import COUNT_FIELD, SOURCE_FIELD, replay_identity
from kp.facts.selection import select_facts
from kp.facts.sources import source_identity
from kp.facts.tables import read_source
from kp.facts.templates import dbpedia_book
from kp.inference.answering import EngineSpec
from kp.models.loading import describe_model, resolve_model
from kp.models.names import NOT_FETCHED, NamedModel
from kp.store.files import results_root
from kp.study.identities import Missing, described_identities, identities_here
from kp.study.probing import ProbedStudy
from tests.made_up_study import frame_of

SMOKE = Path(__file__).parents[2] / "ray_jobs" / "studies" / "smoke.toml"


def smoke(*overrides: str) -> StudyConfig:
    return load_study(SMOKE, ["search.arms=[{highly_known = 1}]", *overrides])


def refusal(work: Callable[[], object]) -> UserError:
    """The error that this raises."""
    with pytest.raises(UserError) as caught:
        work()
    return caught.value


@pytest.mark.parametrize("kind", [UserError, MissingSourceError])
def test_error_with_a_field_is_told_as_field_and_message(kind: type[UserError]) -> None:
    error = kind("facts.csv: cannot be read", field="facts.source")
    assert (error.field, error.message, str(error)) == (
        "facts.source",
        "facts.csv: cannot be read",
        "facts.source: facts.csv: cannot be read",
    )


def test_error_without_a_field_is_told_as_its_message() -> None:
    error = UserError("facts.csv: row 3: 4 fields, the header has 2")
    assert (error.field, str(error)) == (None, "facts.csv: row 3: 4 fields, the header has 2")


@pytest.mark.parametrize(
    "error",
    [
        UserError("no GPU", field="resources.gpu"),
        MissingSourceError("not here", field="search.replay_source"),
        InvalidStudyError(Path("a.toml"), (UserError("unknown key", field="serch"), UserError("no fraction", field="facts.count"))),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_that_comes_out_of_another_process_still_has_its_field(error: UserError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.field, again.message, str(again)) == (type(error), error.field, error.message, str(error))


STUDY_FIELDS = {
    "a key that is unknown": (["search.ranks=[4]"], "search.ranks"),
    "a value that pydantic refuses": (['search.rank=[4, "big"]'], "search.rank.1"),
    "a value that its section refuses": (["search.learning_rate=[0.0]"], "search.learning_rate"),
    "a value that a section of a section refuses": (["facts.paraphrase.prompt=Ask!"], "facts.paraphrase.prompt"),
    "a value that does not go with another section's": (["resources.workers_per_trial=5"], "training.batch_size"),
    "an override below a value": (["name.first=x"], "name"),
    "an override far below a value": (["facts.count.of.all=x"], "facts.count"),
    "an override that names no field": (["facts.count"], "override"),
}


@pytest.mark.parametrize(("overrides", "field"), STUDY_FIELDS.values(), ids=STUDY_FIELDS)
def test_load_study_names_the_field_in_full(overrides: list[str], field: str) -> None:
    error = refusal(lambda: load_study(SMOKE, overrides))
    assert error.field == field
    assert f"{field}: {error.message}" in str(error)


def test_load_study_several_faults_have_a_field_each() -> None:
    error = refusal(lambda: load_study(SMOKE, ["search.ranks=[4]", "facts.count=0", "training.init=xavier"]))
    assert isinstance(error, InvalidStudyError)
    assert {fault.field for fault in error.faults} == {"search.ranks", "facts.count", "training.init"}
    assert error.field == error.faults[0].field
    assert str(error).splitlines() == [f"{SMOKE}: {fault}" for fault in error.faults]


SOURCES = {
    "a table": ("nowhere.csv", "nowhere.csv: cannot be read: No such file or directory"),
    "a data set": ("hf:one:two/three/four", "'hf:one:two/three/four': expected hf:NAME"),
    "a dump": ("nowhere.ttl.bz2", "'nowhere.ttl.bz2': cannot be read: "),
}


@pytest.mark.parametrize(("source", "fault"), SOURCES.values(), ids=SOURCES)
def test_source_of_facts_that_is_not_here_is_told_of_the_field_that_names_it(source: str, fault: str) -> None:
    studied = refusal(lambda: source_identity(FactsConfig(source=source)))
    replayed = refusal(lambda: source_identity(FactsConfig(source=source), SOURCE_FIELD))
    assert (studied.field, replayed.field) == ("facts.source", "search.replay_source")
    assert studied.message == replayed.message
    assert studied.message.startswith(fault)


def test_replay_source_that_is_not_here_is_told_of_its_own_field() -> None:
    assert refusal(lambda: replay_identity(smoke("search.replay_source=nowhere.csv"))).field == "search.replay_source"


@pytest.mark.parametrize("name", ["nowhere.csv", "nowhere.jsonl", "nowhere.parquet", "nowhere.txt"])
def test_read_source_of_replayed_facts_names_their_field(name: str) -> None:
    error = refusal(lambda: read_source(name, SOURCE_FIELD))
    assert error.field == "search.replay_source"
    assert "facts.source" not in str(error)


def test_read_source_of_a_data_set_that_is_not_there_keeps_its_kind_and_names_the_field(tmp_path: Path) -> None:
    error = refusal(lambda: read_source(f"hf:{tmp_path}:train", SOURCE_FIELD))
    assert isinstance(error, MissingSourceError)
    assert error.field == "search.replay_source"


def test_select_facts_count_above_what_is_there_is_told_of_the_field_that_says_it() -> None:
    none = frame_of([], schema.FACTS)
    assert refusal(lambda: select_facts(none, (), 9, 0)).field == "facts.count"
    assert str(refusal(lambda: select_facts(none, (), 9, 0, COUNT_FIELD))).startswith("search.replay_count: 9 facts asked for, 0 exist")


@pytest.mark.parametrize("field", ["facts.graph.same_as", "facts.graph.ontology"])
def test_companion_dump_is_told_of_the_field_that_names_it(tmp_path: Path, field: str) -> None:
    damaged = tmp_path / "damaged.nt.gz"
    damaged.write_bytes(b"\x1f\x8bno gzip")
    absent = str(tmp_path / "absent.nt")
    assert refusal(lambda: companion_digest(absent, field)).field == field
    assert refusal(lambda: list(triples_of(absent, ["r"], field))).field == field
    assert refusal(lambda: list(triples_of(str(damaged), ["r"], field))).field == field


def test_templates_are_told_of_their_field_and_the_key(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[relations.birthPlace]\ndomain = "person"\nquestion = "Where?"\nparaphrases = []\n', encoding="utf-8")
    error = refusal(lambda: dbpedia_book(path))
    assert error.field == "facts.graph.templates"
    assert error.message.startswith(f"{path}: relation 'birthPlace', key 'question': ")


@pytest.mark.parametrize("ask", [resolve_model, describe_model])
def test_model_is_told_of_the_field_that_names_it(ask: Callable[..., object]) -> None:
    config = ModelConfig(name="not/a/model")
    assert refusal(lambda: ask(config)).field == "model.name"
    assert refusal(lambda: ask(config, PARAPHRASER_FIELD)).field == "facts.paraphrase.model"


def test_engine_whose_model_is_not_there_tells_the_field_that_names_it() -> None:
    engine = EngineSpec(ModelConfig(name="not/a/model"), 8, stop_at_newline=True, batch_size=4, threads=1, use_gpu=False)
    assert refusal(engine.load).field == "model.name"
    assert refusal(replace(engine, model_field=PARAPHRASER_FIELD).load).field == "facts.paraphrase.model"


@pytest.mark.parametrize(
    ("field", "revision_field"),
    [("model.name", "model.revision"), (PARAPHRASER_FIELD, "facts.paraphrase.revision"), ("model", "revision")],
)
def test_revision_of_a_folder_is_told_of_the_revision_beside_the_name(tmp_path: Path, field: str, revision_field: str) -> None:
    config = ModelConfig(name=str(tmp_path), revision="main")
    assert refusal(lambda: resolve_model(config, field)).field == revision_field


def test_paraphraser_that_is_not_there_is_told_of_its_own_field() -> None:
    config = smoke("facts.paraphrase.model=not/a/model", "facts.paraphrase.count=10")

    def revision_of(model: NamedModel, field: str) -> str:
        return "known" if field == "model.name" else describe_model(model, field)

    error = refusal(lambda: described_identities(config, revision_of, lambda missing: None))
    assert str(error).startswith("facts.paraphrase.model: 'not/a/model' is neither")


def test_described_identities_note_what_is_not_here_with_its_field() -> None:
    noted: list[Missing] = []
    config = smoke("search.replay_source=nowhere.csv", "search.replay_count=20")
    described_identities(config, lambda model, field: NOT_FETCHED, noted.append)
    assert [(missing.error.field, missing.estimated_from) for missing in noted] == [("search.replay_source", "search.replay_count")]


def test_identities_here_adds_the_remedy_and_keeps_the_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kp.study.identities.describe_model", lambda model, field: "known")
    config = smoke("search.replay_source=nowhere.csv", "search.replay_count=20")
    error = refusal(lambda: identities_here(ProbedStudy(config, {})))
    assert error.field == "search.replay_source"
    assert "run `kp facts` here first" in error.message
    assert str(error).startswith("search.replay_source: nowhere.csv: cannot be read")


def test_model_that_a_look_cannot_know_is_told_of_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kp.study.identities.describe_model", lambda model, field: NOT_FETCHED)
    error = refusal(lambda: identities_here(ProbedStudy(smoke("model.name=some/model"), {})))
    assert str(error).startswith(f"model.name: some/model is {NOT_FETCHED}; trials are identified by it")


def test_results_root_is_told_of_its_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refusal(lambda: results_root(tmp_path / "file" / "runs")).field == "--results"
