"""Ray Train's loop function: the worker of a group trains one trial after another from the queue.

A trial that raises has failed if the error is its own, and is moved if the error may be that of the process, its node or the storage. One
that ran out of memory continues with half as many rows in a pass, which is the same optimiser step, until a single row is too much.

Only a lone worker whose trial failed by an error of its own, or ran out of memory in a pass, continues in the same process. In all other
cases the group's processes end, and Ray Train starts them again: a worker that broke leaves the others waiting inside a collective, a CUDA
error leaves a process in which every later call fails, and DeepSpeed keeps what it had begun to make, and all models of ZeRO stage 3.
"""

import re
import time
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kp.cluster.last_words import place_here
from kp.cluster.metrics import Metric, record
from kp.errors import user_error_in
from kp.search.trial_queue import Decision, TrialAssignment, out_of_memory
from kp.store.bucket_folder import WorkFolder
from kp.training.base_model_cache import BaseModelCache
from kp.training.bucket_checkpoints import Checkpoints, checkpoints_in
from kp.training.engine import Place
from kp.training.job import TrialJob
from kp.training.trial import TrialTraining
from kp.vocabulary import TrialStatus

BEAT_SECONDS = 15.0  # between two signs of life in a long epoch
_OF_DEVICE = re.compile(r"\b(CUDA|NCCL|cuBLAS|CUBLAS|cuDNN|CUDNN|[Gg]loo)\b")  # where libraries raise a plain RuntimeError


@dataclass(frozen=True)
class WorkerGroupJob:
    """What a worker group gets when it starts."""

    group: str
    queue: Any  # a handle of the actor that holds a kp.search.trial_queue.TrialQueue
    jobs: dict[str, Any]  # trial_id -> object reference of its TrialJob
    work: Mapping[str, WorkFolder]  # trial_id -> the folder of its checkpoints
    micro_batch: int | None
    study: str = ""  # its name, for metrics


def train_trials(loop_config: dict[str, WorkerGroupJob]) -> None:
    """Train the trials that the queue assigns, until it has no more."""
    import ray.train

    context = ray.train.get_context()
    worker = Worker(loop_config["group"], Place(context.get_world_rank(), context.get_world_size()))
    turn = 0
    while (assignment := worker.ask("next_trial", worker.job.group, worker.life, turn)) is not None:
        worker.train(assignment)
        turn += 1
        if worker.is_spent and worker.ask("wait_for_more"):
            raise ProcessSpentError("not a fault: after ZeRO stage 3, further trials are trained by new processes")


class ProcessSpentError(Exception):
    """Raised to have Ray Train start a group's processes again; the queue charges it to nobody, because the group has no trial."""


class Worker:
    """One process of a worker group, which trains trial after trial."""

    def __init__(self, job: WorkerGroupJob, place: Place) -> None:
        self.job, self._place = job, place
        self.life = self._same_for_all(uuid.uuid4().hex)
        self._here = place_here()
        self.ask("worker_started", job.group, place.rank, self._here)
        self._model_cache: BaseModelCache | None = None
        self._training: TrialTraining | None = None
        self._beaten = time.monotonic()
        self.is_spent = False
        """Whether it has trained what stays in its memory, so that it should train nothing else."""

    def ask(self, question: str, *arguments: Any) -> Any:
        """Call a method of the queue and wait for the result."""
        import ray

        return ray.get(getattr(self.job.queue, question).remote(*arguments))

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

    def train(self, assignment: TrialAssignment) -> None:
        """Train one trial to its end, or until the queue stops it; raises if this process must end with it."""
        try:
            self._attempt(assignment)
            return
        except Exception as error:  # any error ends this attempt and not the study
            self._report(assignment.trial_id, error)
            if self._must_end(error):
                raise
        self._model_cache = None  # its state is unknown
        training, self._training = self._training, None
        if training is not None:
            training.discard()

    def _attempt(self, assignment: TrialAssignment) -> None:
        import ray

        kept = checkpoints_in(self.job.work[assignment.trial_id])
        job: TrialJob = ray.get(self.job.jobs[assignment.trial_id])
        if self._place.rank == 0:
            kept.note_running()
        self.is_spent = self.is_spent or job.spec.training.zero_stage == 3
        self._training = training = self._make_training(job, assignment.micro_batch)
        training.on_step = self._beat
        before = kept.newest()
        if before is not None:
            training.restore(before)
        self._run(training, kept)
        training.close()
        self._training = None

    def _report(self, trial_id: str, error: Exception) -> None:
        """Let the queue know what ended an attempt."""
        refusal = user_error_in(error)
        text = str(refusal or _last_line(error))
        where = f"{text} (on {self._here})"
        if refusal is not None:
            self.ask("report_end", trial_id, TrialStatus.FAILED, text, refusal)
        elif memory_ran_out(error):
            rows = self._training.micro_rows if self._training is not None else None
            self.ask("ran_out_of_memory", self.job.group, trial_id, where, rows)
        elif is_infrastructure(error):
            self.ask("attempt_failed", self.job.group, trial_id, where)
        else:
            self.ask("report_end", trial_id, TrialStatus.FAILED, text)

    def _must_end(self, error: Exception) -> bool:
        """Whether this process is of no more use after an error."""
        if self._place.world > 1 or self.is_spent:
            return True
        if user_error_in(error) is not None:  # while a trial is made, it comes before the engine
            return False
        # While a trial is made there is no handle on what DeepSpeed has made of it.
        return self._training is None or (is_infrastructure(error) and not memory_ran_out(error))

    def _beat(self, step: int) -> None:
        if self._place.rank == 0 and time.monotonic() - self._beaten >= BEAT_SECONDS:
            self._beaten = time.monotonic()
            self.job.queue.heartbeat.remote(self.job.group, step)

    def _make_training(self, job: TrialJob, micro_batch: int | None) -> TrialTraining:
        import torch

        torch.set_num_threads(job.engine.threads)
        if self._model_cache is None or self._model_cache.engine != job.engine:
            self._model_cache = BaseModelCache(job.engine)
        return TrialTraining(self._model_cache, job, self._place, micro_batch or self.job.micro_batch)

    def _run(self, training: TrialTraining, kept: Checkpoints) -> None:
        trial_id = training.job.trial_id
        for measured in list(training.progress.epochs):  # of an earlier run, whose driver may have died before it received them
            if not self._may_continue(trial_id, measured):
                return
        while training.progress.status is None:
            training.run_epoch()
            self._commit(training, kept)
            self._export(trial_id, training.progress.epochs[-1])
            if not self._may_continue(trial_id, training.progress.epochs[-1]):
                return
        if self._place.rank == 0:
            self.ask("report_end", trial_id, training.progress.status, training.progress.cause)

    def _export(self, trial_id: str, measured: dict[str, Any]) -> None:
        if self._place.rank > 0:
            return
        of_search = {"study": self.job.study, "stage": "search"}
        record(Metric.EPOCHS, 1, **of_search)
        record(Metric.EPOCH_SECONDS, measured["seconds"] + measured["eval_seconds"], **of_search)
        record(Metric.TRAIN_LOSS, measured["train_loss"], **of_search, trial=trial_id[:8])
        record(Metric.UNKNOWN_ACCURACY, measured["unknown_accuracy"], **of_search, trial=trial_id[:8])

    def _commit(self, training: TrialTraining, kept: Checkpoints) -> None:
        epoch, rank = len(training.progress.epochs), self._place.rank
        if rank == 0:
            kept.begin(epoch, self.life)
        self._barrier()
        training.save(kept.unfinished(epoch, self.life, rank))
        kept.saved(epoch, self.life, rank)
        self._barrier()
        if rank == 0:
            kept.commit(epoch, self.life, self._place.world)

    def _may_continue(self, trial_id: str, measured: dict[str, Any]) -> bool:
        import ray.train

        epoch = int(measured["epoch"])
        if self._place.rank == 0:
            self.ask("report_epoch", trial_id, epoch, measured)
        decision: Decision = self.ask("wait_for_decision", trial_id, epoch)
        ray.train.report({"trial_id": trial_id, **{name: value for name, value in measured.items() if value is not None}})
        return decision is Decision.CONTINUE


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in traceback.format_exception_only(error) if line.strip()]
    return " ".join(" ".join(lines).split())


def memory_ran_out(error: Exception) -> bool:
    """Whether memory ran out, on a GPU, in this process or on its node."""
    from kp.generation.memory import is_out_of_memory  # only now, because it imports torch

    return is_out_of_memory(error) or out_of_memory(str(error))


def is_infrastructure(error: BaseException) -> bool:
    """Whether an error may be that of a process, a GPU, a connection or the storage, so that the trial may succeed elsewhere or later."""
    import ray.exceptions
    import torch
    import torch.distributed

    kinds = (OSError, ray.exceptions.RayError, torch.AcceleratorError, torch.distributed.DistError)
    return isinstance(error, kinds) or bool(_OF_DEVICE.search(str(error)))
