"""Ray Train's loop function: a crew's worker trains one trial after another, as the broker hands them out.

A trial that raises ends the crew's processes, since a worker that broke leaves the others waiting inside a collective; Ray Train starts
them again, and the broker knows by then that the trial is done with. Only a crew of one goes on in the same process.
"""

import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.search.broker import Order, Word, out_of_memory
from kp.training import checkpoints
from kp.training.engine import Place
from kp.training.job import TrialJob
from kp.training.trial import TrialTraining
from kp.training.workbench import Workbench
from kp.vocabulary import TrialStatus


@dataclass(frozen=True)
class CrewJob:
    """What a crew is handed when it starts."""

    crew: str
    broker: Any  # a handle of the actor that holds a kp.search.broker.Broker
    jobs: dict[str, Any]  # trial_id -> object reference of its TrialJob
    work: Mapping[str, Path]  # trial_id -> the folder of its checkpoints
    micro_batch: int | None


def train_trials(loop_config: dict[str, CrewJob]) -> None:
    """Train whatever the broker hands out, until it sends the crew home."""
    import ray.train

    context = ray.train.get_context()
    worker = _Worker(loop_config["crew"], Place(context.get_world_rank(), context.get_world_size()))
    turn = 0
    while (order := worker.ask("take", worker.crew.crew, worker.life, turn)) is not None:
        worker.train(order)
        turn += 1


class _Worker:
    def __init__(self, crew: CrewJob, place: Place) -> None:
        self.crew, self._place = crew, place
        self.life = self._same_for_all(uuid.uuid4().hex)
        self._workbench: Workbench | None = None

    def ask(self, question: str, *arguments: Any) -> Any:
        """Put a question to the broker and wait for the answer."""
        import ray

        return ray.get(getattr(self.crew.broker, question).remote(*arguments))

    def _same_for_all(self, value: str) -> str:
        import torch.distributed

        if self._place.world == 1:
            return value
        held = [value]
        torch.distributed.broadcast_object_list(held, src=0)
        return held[0]

    def _barrier(self) -> None:
        import torch.distributed

        if self._place.world > 1:
            torch.distributed.barrier()

    def train(self, order: Order) -> None:
        """Train one trial to its end, or as far as the broker lets it."""
        import ray

        folder = self.crew.work[order.trial_id]
        try:
            job: TrialJob = ray.get(self.crew.jobs[order.trial_id])
            if self._place.rank == 0:
                checkpoints.note_running(folder)
            training = self._training(job)
            before = checkpoints.newest(folder)
            if before is not None:
                training.restore(before)
            self._run(training, folder)
            training.close()
        except Exception as error:  # whatever it is, it is this trial's end and not the study's
            self._workbench = None  # in whatever state that is
            text = _last_line(error)
            status = TrialStatus.OUT_OF_MEMORY if out_of_memory(text) else TrialStatus.FAILED
            self.ask("ended", order.trial_id, status, text)
            if self._place.world > 1:
                raise

    def _training(self, job: TrialJob) -> TrialTraining:
        import torch

        torch.set_num_threads(job.engine.threads)
        if self._workbench is None or self._workbench.engine != job.engine:
            self._workbench = Workbench(job.engine)
        return TrialTraining(self._workbench, job, self._place, self.crew.micro_batch)

    def _run(self, training: TrialTraining, folder: Path) -> None:
        trial_id = training.job.trial_id
        for measured in list(training.progress.epochs):  # of an earlier run, whose driver may have died before it heard
            if not self._may_go_on(trial_id, measured):
                return
        while training.progress.status is None:
            training.run_epoch()
            self._commit(training, folder)
            if not self._may_go_on(trial_id, training.progress.epochs[-1]):
                return
        if self._place.rank == 0:
            self.ask("ended", trial_id, training.progress.status, training.progress.cause)

    def _commit(self, training: TrialTraining, folder: Path) -> None:
        epoch = len(training.progress.epochs)
        if self._place.rank == 0:
            checkpoints.begin(folder, epoch)
        self._barrier()
        training.save(checkpoints.unfinished(folder, epoch))
        self._barrier()
        if self._place.rank == 0:
            checkpoints.commit(folder, epoch)

    def _may_go_on(self, trial_id: str, measured: dict[str, Any]) -> bool:
        import ray.train

        epoch = int(measured["epoch"])
        if self._place.rank == 0:
            self.ask("tell", trial_id, epoch, measured)
        told: Word = self.ask("word", trial_id, epoch)
        ray.train.report({"trial_id": trial_id, **{name: value for name, value in measured.items() if value is not None}})
        return told is Word.GO_ON


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in traceback.format_exception_only(error) if line.strip()]
    return " ".join(" ".join(lines).split())
