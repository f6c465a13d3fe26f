"""Tasks of lm-eval's collection, by their names, of the base and of every adapter; one step a requested task."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from kp import schema
from kp.benchmarks.harness_tasks import HarnessTask, data_set, single_tasks
from kp.benchmarks.task_data import fetch_data
from kp.config.identity import Reads
from kp.config.study import TaskConfig
from kp.inference.evaluation import LoadedModel, Part
from kp.store import prefetched
from kp.store.filenames import BENCHMARK_CHOICES_FILE, BENCHMARK_ITEMS_FILE, BENCHMARKS_FILE
from kp.store.steps import Step
from kp.study.graph import Trial
from kp.study.identities import NOT_HERE
from kp.study.measurement import Measurement, Trained
from kp.study.session import Session
from kp.study.stage import Making, Planning, model_literals
from kp.vocabulary import BASE

NAME = "harness"
DATA_FOLDER = "task_data"  # in the study's folder: what was fetched from the Hub


def harness_on(task: str) -> str:
    """The name of the step that holds what a model scores on a requested task."""
    return f"{NAME}/{task}"


@dataclass(frozen=True)
class HarnessMeasurement:
    """A requested task: its single tasks, and the folder with their data."""

    asked: TaskConfig
    tasks: tuple[HarnessTask, ...]
    folder: Path
    seed: int
    trial_id: str
    needs_transformers: bool = True

    def parts(self, facts: pa.Table) -> list[Part]:
        """Some questions of a single task each."""
        from kp.benchmarks.harness import task_parts

        parts = task_parts(self.tasks, self.folder, self.asked.limit, self.asked.fewshot, self.seed)
        return [
            Part(f"{one.task.name}-{one.questions[0]:08d}", asdict(one.task) | {"questions": list(one.questions)}, len(one.questions))
            for one in parts
        ]

    def measure(self, model: LoadedModel, part: Part) -> pa.Table:
        """ASKED of kp.benchmarks.harness."""
        from kp.benchmarks.harness import TaskPart, ask_part

        content = part.content
        asked = TaskPart(HarnessTask(content["name"], content["file"]), tuple(content["questions"]))
        with model.transformers() as generator:
            made = ask_part(generator.model, generator.tokenizer, asked, self.asked.fewshot, self.folder, generator.batch_size, model.work)
            generator.on_answered(part.prompts)
        return made

    def tables(self, parts: Sequence[pa.Table]) -> dict[str, pa.Table]:
        """BENCHMARKS, BENCHMARK_ITEMS and BENCHMARK_CHOICES."""
        from kp.benchmarks.harness import put_together

        made = put_together(self.asked.name, self.tasks, self.trial_id, parts)
        return {BENCHMARKS_FILE: made.means, BENCHMARK_ITEMS_FILE: made.items, BENCHMARK_CHOICES_FILE: made.choices}


class Harness(Measurement):
    """Absent if the study asks for no task by name."""

    name = NAME
    version = 2
    reads = Reads(("model.dtype", "evaluate.tasks", "seed"))
    tables = {
        BENCHMARKS_FILE: schema.BENCHMARKS,
        BENCHMARK_ITEMS_FILE: schema.BENCHMARK_ITEMS,
        BENCHMARK_CHOICES_FILE: schema.BENCHMARK_CHOICES,
    }

    def of_adapter(self, making: Making, trained: Trained) -> dict[str, Step]:
        """One step a task, so that another one leaves those made before alone."""
        return self._steps(making, {}, (trained.step,))

    def of_base(self, making: Making) -> dict[str, Step]:
        """The same questions for the base, with which the adapters' scores are compared."""
        return self._steps(making, {"of": BASE, **model_literals(making)}, ())

    def _steps(self, making: Making, of: dict[str, str], inputs: tuple[Step, ...]) -> dict[str, Step]:
        return {harness_on(task.name): Step(NAME, self._literals(making, task) | of, inputs) for task in making.config.evaluate.tasks}

    def _literals(self, making: Making, task: TaskConfig) -> dict[str, Any]:
        read = {name: value for name, value in self.literals(making).items() if name not in ("evaluate.tasks", "seed")}
        draw = {"limit": task.limit, "seed": making.config.seed} if task.limit else {}
        asked = {"task": task.name, "fewshot": task.fewshot, "lm_eval": importlib.metadata.version("lm-eval")}
        return read | draw | asked | {"data": making.identities.task_data.get(task.name, NOT_HERE)}

    def task(self, session: Session, name: str, trial: Trial | None) -> HarnessMeasurement:
        """The same for every model; what the Hub has and this study does not is fetched."""
        (asked,) = (one for one in session.config.evaluate.tasks if harness_on(one.name) == name)
        tasks = tuple(single_tasks(asked.name))
        folder = _data_folder(session)
        if folder == _own_folder(session):
            commits = session.graph.base[name].literals["data"]
            for one in dict.fromkeys(map(data_set, tasks)):
                fetch_data(folder, one, commits[one.path])
        return HarnessMeasurement(asked, tasks, folder, session.config.seed, trial.trial_id if trial else BASE)

    def plan(self, planning: Planning) -> str | None:
        """The names of the tasks."""
        tasks = planning.config.evaluate.tasks
        named = ", ".join(task.name + (f" ({task.limit:,} questions)" if task.limit else "") for task in tasks)
        return f"lm-eval: {named}" if tasks else None


def _data_folder(session: Session) -> Path:
    """Where the data of tasks are, or are fetched to."""
    if session.config.evaluate.task_data:
        return Path(session.config.evaluate.task_data).resolve()
    here = prefetched.in_use()
    return prefetched.task_folder(here.folder) if here else _own_folder(session)


def _own_folder(session: Session) -> Path:
    return session.folder.path.resolve() / DATA_FOLDER
