"""What replayed facts of another source, held-out paraphrases and other knobs of a search do to the steps of a study."""

from pathlib import Path

import pytest

from kp.config.study import StudyConfig, load_study
from kp.store.steps import Step
from kp.study.building import build_graph
from kp.study.graph import Graph
from kp.study.identities import Identities
from kp.study.inspection import Inspection, inspection_step
from kp.study.stages.report import report_step

REPOSITORY = Path(__file__).parents[2]
SMOKE = REPOSITORY / "ray_jobs" / "studies" / "smoke.toml"
REPLAYED = ("search.replay_source=builtin", "search.replay_count=40")
ARMS = "search.arms=[{}, {highly_known = 1}, {maybe_known = 1, paraphrases = 1}]"


def smoke(*overrides: str) -> StudyConfig:
    return load_study(SMOKE, list(overrides))


def graph_of(config: StudyConfig, replay: str | None = None) -> Graph:
    return build_graph(config, Identities("model", "facts", "shots", replay=replay))


def kinds(step: Step) -> set[str]:
    return {source.kind for source in step.inputs}


def test_build_graph_replay_source_is_an_input_of_the_trials_that_replay_alone() -> None:
    plain, other = graph_of(smoke(ARMS)), graph_of(smoke(ARMS, *REPLAYED), "other")
    assert "replay_facts" in other.steps
    assert "replay_categorise" in other.steps
    assert other.steps["replay_facts"].inputs == (other.steps["facts"],)
    assert other.steps["replay_categorise"].inputs == (other.steps["replay_facts"],)
    for name in ("facts", "categorise"):
        assert other.steps[name].fingerprint == plain.steps[name].fingerprint
    assert other.trials[0].step.fingerprint == plain.trials[0].step.fingerprint  # replays nothing
    for trial in other.trials[1:]:
        assert kinds(trial.step) == {"categorise", "parts", "replay_categorise"}
    assert not {"replay_facts", "replay_categorise"} & plain.steps.keys()


def test_build_graph_replayed_facts_are_asked_as_studied_ones_are_but_on_s0_alone() -> None:
    found = graph_of(smoke(ARMS, *REPLAYED), "other")
    assert "replay_categorise" in found.steps
    assert found.steps["replay_categorise"].literals == found.steps["categorise"].literals | {"shot_sets": ["S0"]}


@pytest.mark.parametrize("override", ["search.replay_count=41", "seed=1", "facts.seed=1", "facts.most_of_one_object=0.5"])
def test_build_graph_replayed_facts_are_known_by_how_they_are_chosen(override: str) -> None:
    before, after = graph_of(smoke(ARMS, *REPLAYED), "other"), graph_of(smoke(ARMS, *REPLAYED, override), "other")
    assert "replay_facts" in before.steps
    assert "replay_facts" in after.steps
    assert before.steps["replay_facts"].literals != after.steps["replay_facts"].literals


def test_build_graph_replayed_facts_are_known_by_the_content_of_their_source_and_not_by_its_name() -> None:
    one, same, another = (
        graph_of(smoke(ARMS, f"search.replay_source={name}.csv"), content) for name, content in (("a", "x"), ("b", "x"), ("a", "y"))
    )
    assert one.trials[1].trial_id == same.trials[1].trial_id
    assert one.trials[1].trial_id != another.trials[1].trial_id


def test_build_graph_held_out_paraphrases_are_measured_of_every_trial() -> None:
    plain, held_out = (graph_of(smoke(f"evaluate.held_out_paraphrases={count}")) for count in (0, 2))
    assert [trial.trial_id for trial in plain.trials] == [trial.trial_id for trial in held_out.trials]
    for trial in held_out.trials:
        assert trial.measurements["generality"].inputs == (trial.step,)
        assert trial.measurements["generality"].literals["shot_set"] == "S1"
    extra = [step for step in held_out.evaluation_steps() if step.kind == "generality"]
    assert len(extra) == len(held_out.trials) == 3
    assert [step.kind for step in plain.evaluation_steps()] == [
        *("reversal", "benchmarks", "surprisal"),
        *["answers", "answers", "reversal", "benchmarks", "surprisal", "drift"] * 3,
    ]
    assert not any("generality" in trial.measurements for trial in plain.trials)


def test_build_graph_generality_and_trials_of_paraphrases_rest_on_those_that_a_model_writes() -> None:
    config = smoke("evaluate.held_out_paraphrases=2", "facts.paraphrase.model=m")
    found = build_graph(config, Identities("model", "facts", "shots", "writer"))
    assert all("paraphrases" in kinds(trial.measurements["generality"]) for trial in found.trials)
    assert ["paraphrases" in kinds(trial.step) for trial in found.trials] == [False, False, True]


def test_report_step_rests_on_what_was_measured_of_generality() -> None:
    config = smoke("evaluate.held_out_paraphrases=2")
    graph = graph_of(config)
    inputs = report_step(config, graph, list(graph.trials), {}).inputs
    assert {trial.measurements["generality"] for trial in graph.trials} <= set(inputs)


@pytest.mark.parametrize(
    "override", ["search.arms=[{maybe_known = 1}]", "search.eval_facts=3", "training.schedule=cosine", "facts.control_share=0.3"]
)
def test_inspection_step_says_a_knob_that_is_turned(override: str) -> None:
    plain, turned = (inspection_step(Inspection.AUDIT, config, graph_of(config)) for config in (smoke(), smoke(override)))
    assert plain.literals != turned.literals


def test_inspection_step_is_the_same_whoever_hears_of_trials_and_wherever_the_replayed_facts_lie(tmp_path: Path) -> None:
    fingerprints = set()
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "known.csv").write_text("question,answer\nWho?,I\n", encoding="utf-8")
        config = smoke(ARMS, f"search.replay_source={tmp_path}/{folder}/known.csv", f"trackers.project={folder}")
        fingerprints.add(inspection_step(Inspection.AUDIT, config, graph_of(config, "other")).fingerprint)
    assert len(fingerprints) == 1
