"""Which facts of a source of their own are left to replay, and what is said where it is of no use."""

from pathlib import Path

import polars as pl
import pytest

from kp import schema
from kp.config.study import StudyConfig, load_study
from kp.errors import UserError
from kp.facts.replay import replay_identity, validate_replay_source, without_studied
from kp.prompts import builtin_prompts
from kp.schema import frame
from kp.store.filenames import REPLACED_SHOTS_FILE
from kp.study.run import describe_study, open_session, run_stage
from kp.vocabulary import ShotSet
from tests.made_up_study import frame_of

SMOKE = Path(__file__).parents[2] / "ray_jobs" / "studies" / "smoke.toml"


def smoke(*overrides: str) -> StudyConfig:
    return load_study(SMOKE, ["search.arms=[{highly_known = 1}]", *overrides])


def facts_of(*asked: tuple[str, str], paraphrases: tuple[str, ...] = ()) -> pl.DataFrame:
    rows = [
        {
            "fact_id": fact_id,
            "subject": fact_id,
            "relation": "r",
            "object": "o",
            "question": question,
            "answers": ["o"],
            "paraphrases": list(paraphrases),
            "source": "test",
        }
        for fact_id, question in asked
    ]
    return frame_of(rows, schema.FACTS)


def test_without_studied_leaves_out_what_is_studied_by_its_id_its_question_or_another_wording() -> None:
    studied = facts_of(("a", "Who wrote Ulysses?"), paraphrases=("Name the author of Ulysses.",))
    others = facts_of(
        ("z", "Who made Metropolis?"),
        ("a", "Who?"),
        ("b", "who wrote  ULYSSES"),
        ("c", "Name the author of Ulysses"),
        ("d", "Who wrote It?"),
    )
    assert without_studied(others, studied)["fact_id"].to_list() == ["z", "d"]


def test_without_studied_of_nothing_but_studied_facts_raises() -> None:
    studied = facts_of(("a", "Who wrote Ulysses?"))
    with pytest.raises(UserError, match=r"search\.replay_source: each of its 1 facts is studied"):
        without_studied(studied, studied)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("search.replay_source=dump.ttl.bz2",), r"search\.replay_source: 'dump\.ttl\.bz2' is a knowledge-graph dump"),
        (("search.replay_source=synthetic",), r"replay_count: replay_source 'synthetic' needs to be told how many"),
    ],
)
def test_validate_replay_source_names_the_field(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate_replay_source(smoke(*overrides))


def test_replay_identity_of_a_study_without_a_source_is_none() -> None:
    validate_replay_source(smoke())
    assert replay_identity(smoke()) is None


def test_replay_identity_of_a_file_that_is_not_here_raises_naming_the_field() -> None:
    with pytest.raises(UserError, match=r"search\.replay_source: nowhere\.csv: cannot be read"):
        replay_identity(smoke("search.replay_source=nowhere.csv"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("facts.graph.templates=mine.toml",), r"^facts\.graph: it is about knowledge-graph dumps"),
        (("facts.source=hf:a:b:c",), r"^facts\.source: 'hf:a:b:c': expected hf:NAME"),
        (("facts.source=.",), r"^facts\.source: '\.': no file in it is a dump"),
    ],
)
def test_describe_study_refuses_a_source_that_no_machine_could_use(overrides: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        describe_study(smoke(*overrides), tmp_path)


def test_describe_study_prices_a_replay_source_that_is_not_here_by_its_count(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    absent = "search.replay_source=nowhere.csv"
    assert describe_study(smoke(absent, "search.replay_count=20"), tmp_path) == 0
    assert "(priced by search.replay_count)" in " ".join(capfd.readouterr().out.split())
    with pytest.raises(UserError, match=r"search\.replay_source: nowhere\.csv: cannot be read"):
        describe_study(smoke(absent), tmp_path)


def known_facts(path: Path) -> Path:
    """A table of four facts: one that the study asks, one that a shot of S0 gives away, two others."""
    shot = builtin_prompts(ShotSet.S0)[0][0]
    rows = [("Who directed Metropolis?", "Fritz Lang"), (shot.question, shot.answer), ("Who painted Guernica?", "Pablo Picasso")]
    pl.DataFrame({"question": [row[0] for row in rows], "answer": [row[1] for row in rows]}).write_csv(path)
    return path


def test_replay_facts_stage_leaves_studied_facts_out_and_replaces_the_shots_that_leak(tmp_path: Path) -> None:
    studied = tmp_path / "studied.csv"
    studied.write_text("question,answer\nwho directed Metropolis,Fritz Lang\nWho wrote It?,Stephen King\n", encoding="utf-8")
    bare = (f"facts.source={studied}", "facts.relations=[]", "facts.count=2", "search.unknown=[1]")
    config = smoke(*bare, f"search.replay_source={known_facts(tmp_path / 'known.csv')}")
    shot = builtin_prompts(ShotSet.S0)[0][0]
    with open_session(config, tmp_path) as session:
        run_stage(session, "facts")
        run_stage(session, "replay_facts")
        assert set(frame(session.replay_facts)["question"]) == {shot.question, "Who painted Guernica?"}
        assert list(session.replay_shot_sets) == [ShotSet.S0]
        assert shot in session.shot_sets[ShotSet.S0][0]
        assert shot not in session.replay_shot_sets[ShotSet.S0][0]
        assert session.replay_shot_sets[ShotSet.S0][1:] == session.shot_sets[ShotSet.S0][1:]
        assert session.graph.steps["replay_facts"] is not None
        replaced = session.store.read(session.graph.steps["replay_facts"], REPLACED_SHOTS_FILE, schema.REPLACED_SHOTS)
        assert replaced["question"].to_pylist() == [shot.question]


def test_replay_facts_stage_count_above_what_is_left_raises_naming_the_field(tmp_path: Path) -> None:
    source = known_facts(tmp_path / "known.csv")
    with open_session(smoke(f"search.replay_source={source}", "search.replay_count=4"), tmp_path) as session:
        run_stage(session, "facts")
        with pytest.raises(UserError, match=r"search\.replay_count: 4 facts asked for, 3 exist"):
            run_stage(session, "replay_facts")
