"""An error for users that is raised in a process of Ray ends as kp's one line and exit code 2; other trials run all the same."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from ray.tune.schedulers import FIFOScheduler

import kp.commands.command_line
from kp import schema
from kp.cli import main
from kp.cluster.sizing import Cluster, Node, plan_cluster
from kp.config.resources import ResourcesConfig
from kp.config.study import ModelConfig
from kp.errors import UserError
from kp.inference.answering import EngineSpec
from kp.inference.base_answers import Categorisation, base_answers
from kp.inference.evaluation import Evaluation, MeasuredModel, Measuring, evaluate_all
from kp.progress import Display
from kp.prompts import builtin_prompts
from kp.search.tune import Listeners, TrialOutcome, run_trials
from kp.search.worker_groups import SearchFolders, WorkerGroups
from kp.study.measurements.answers import AnswersTask
from kp.vocabulary import ShotSet, TrialStatus
from tests.conftest import run_here
from tests.made_up_study import facts
from tests.training_workers import tiny_job, tiny_spec

pytestmark = pytest.mark.usefixtures("local_ray")

ABSENT = "nowhere/no-such-model"
LINE = f"kp: model.name: '{ABSENT}' "
FACTS = facts().head(4).to_arrow().cast(schema.FACTS)
SHOTS = {ShotSet.S0: builtin_prompts(ShotSet.S0)}
ENGINE = EngineSpec(ModelConfig(name=ABSENT), 4, stop_at_newline=True, batch_size=4, threads=1, use_gpu=False)


def one_actor() -> Cluster:
    return plan_cluster(ResourcesConfig(generators=1, concurrent_trials=1, threads=1), [Node(2, 0)])


def assert_one_line(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """This work, done by a command of kp, ends it with this line."""
    monkeypatch.setattr(kp.commands.command_line, "run", lambda arguments: work())
    done = run_here(lambda: main([]))
    assert done.returncode == 2, done.stderr
    # Without a study nothing keeps what Ray prints out of stderr; kp's line is the last.
    said = [one for one in done.stderr.splitlines() if one.startswith("kp: ")]
    assert len(said) == 1, done.stderr
    assert said[0].startswith(line)
    assert done.stderr.splitlines()[-1] == said[0]


def test_model_that_a_generator_cannot_load_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Categorisation(FACTS, SHOTS, [ShotSet.S0], ENGINE)
    assert_one_line(lambda: base_answers(job, tmp_path, one_actor(), Display()), monkeypatch, LINE)


def test_error_for_users_in_a_callable_of_the_pipeline_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unloaded:
        on_answered: Any = None

    class Here(EngineSpec):
        def load(self) -> Any:
            return SimpleNamespace(revision="rev"), Unloaded()

    @dataclass(frozen=True)
    class Refusing(Categorisation):
        def answer(self, generator: Any, facts: pa.Table, chunk: Any, model_id: str) -> pa.Table:
            raise UserError("a question without words", field="facts.source")

    engine = Here(ModelConfig(), 4, stop_at_newline=True, batch_size=4, threads=1, use_gpu=False)
    job = Refusing(FACTS, SHOTS, [ShotSet.S0], engine)
    assert_one_line(lambda: base_answers(job, tmp_path, one_actor(), Display()), monkeypatch, "kp: facts.source: a question without words")


def test_model_that_an_evaluating_actor_cannot_load_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measuring = Measuring("step", MeasuredModel("base", "rev", None), "answers/S0", AnswersTask(ShotSet.S0))
    evaluation = Evaluation(ENGINE, FACTS, SHOTS, tmp_path, [measuring])
    assert_one_line(lambda: list(evaluate_all([evaluation], tmp_path, one_actor(), Display())), monkeypatch, LINE)


def test_trial_whose_worker_raises_an_error_for_users_fails_with_it_and_the_others_run(tiny_study: Path, tmp_path: Path) -> None:
    good = tiny_job(tiny_study.parent / "model", tiny_spec(epochs=1), trial_id="good")
    bad = tiny_job(Path(ABSENT), tiny_spec(epochs=1), trial_id="bad")
    ended: dict[str, TrialOutcome] = {}
    listeners = Listeners(lambda trial_id, measured: None, lambda outcome: ended.update({outcome.job.trial_id: outcome}), print)
    folders = SearchFolders({name: tmp_path / name for name in ("good", "bad")}, tmp_path / "scratch")
    run_trials([bad, good], folders, WorkerGroups(one_actor(), 1, None), FIFOScheduler(), listeners)
    assert {name: outcome.status for name, outcome in ended.items()} == {"good": TrialStatus.COMPLETED, "bad": TrialStatus.FAILED}
    assert isinstance(ended["bad"].refusal, UserError)
    assert ended["bad"].cause == str(ended["bad"].refusal)
    assert ended["bad"].cause.startswith(LINE.removeprefix("kp: "))
    assert ended["good"].refusal is None


@pytest.mark.studies  # a group's processes start three times
def test_trials_at_zero_stage_3_are_trained_one_after_another_by_new_processes(tiny_study: Path, tmp_path: Path) -> None:
    jobs = [tiny_job(tiny_study.parent / "model", tiny_spec(epochs=1, zero_stage=3), trial_id=f"trial {number}") for number in range(3)]
    ended: dict[str, TrialOutcome] = {}
    listeners = Listeners(lambda trial_id, measured: None, lambda outcome: ended.update({outcome.job.trial_id: outcome}), print)
    folders = SearchFolders({job.trial_id: tmp_path / job.trial_id for job in jobs}, tmp_path / "scratch")
    run_trials(jobs, folders, WorkerGroups(one_actor(), 1, None), FIFOScheduler(), listeners)
    assert {outcome.status for outcome in ended.values()} == {TrialStatus.COMPLETED}
    assert len(ended) == len(jobs)
