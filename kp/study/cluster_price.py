"""What a study takes on a cluster that is not there: GPU-hours, wall time and storage traffic of each stage, from stated rates.

Nothing here is measured. A GPU does what its data sheet says, times a share that is assumed; a study that names its rates
(`resources.training_tokens_per_second`, `resources.prompts_per_second`, as `kp bench` prints them) is priced by these. All that is assumed
is a field of `Assumptions`, and is printed under the price.

The FLOPs of a token are those of the layers' matrices: two per weight forwards, and four in training, where frozen weights have no
gradient of their own. Trials are laid on the worker groups as a search does it, the longest first, each to the group that is free next.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from kp.cluster.sizing import Cluster, plan_cluster
from kp.cluster.stated import FIELD, StatedCluster
from kp.errors import UserError
from kp.inference.answering import chunk_size, most_chunk_facts
from kp.models.shapes import ModelShape
from kp.prompts import PROMPTS_PER_SET
from kp.study.memory_price import GIGA, memory_price
from kp.study.pricing import NUMBER_BYTES, SECONDS_AN_HOUR, DiskPrice, PlannedTrials, Prompts, RowTokens, byte_text, eval_prompts
from kp.study.stage import Planning
from kp.training.spec import TrialSpec


@dataclass(frozen=True)
class Assumptions:
    """Everything that a data sheet does not say."""

    training_share: float = 0.25
    """Of the peak rate in training: batches are small, and rows short."""
    answering_share: float = 0.15
    """Of the peak rate in answering: a few tokens are decoded for each question, which the memory's bandwidth limits."""
    prompt_tokens: int = 60
    """Read and written for a prompt: the question and its answer; the shots are read once for many questions."""
    process_seconds: float = 60.0
    """From a stage's start until its processes are up, without the base model: imports, CUDA, the process group."""
    trial_seconds: float = 5.0
    """Of a worker group between two trials: the engine, and the last checkpoint's copy."""
    epoch_seconds: float = 2.0
    """Of a trial at the end of each epoch, without writing the checkpoint: the report to Tune and its decision."""
    storage_gb_per_second: float = 2.0
    """Of the storage that all nodes share, in all."""
    slow_share: float = 1 / 16
    """Of the GPUs are stragglers."""
    slow_factor: float = 1.3
    """By which a straggler is slower."""
    answer_bytes: int = 40
    """Of an answer in storage, with what is kept of it until its stage ends."""

    def lines(self) -> list[str]:
        """All of them in words."""
        slow, factor = f"{100 * self.slow_share:.0f}%", f"{self.slow_factor:g} times"
        return [
            f"{100 * self.training_share:.0f}% of the peak rate in training, {100 * self.answering_share:.0f}% in answering "
            f"{self.prompt_tokens} tokens a prompt",
            f"{self.process_seconds:.0f} s to start a stage's processes, {self.trial_seconds:.0f} s between two trials, "
            f"{self.epoch_seconds:.0f} s at the end of an epoch",
            f"{self.storage_gb_per_second:g} GB/s from and to storage for all nodes together; {slow} of the GPUs {factor} slower",
        ]


@dataclass(frozen=True)
class Rates:
    """What one GPU does in a second, and who says so."""

    training_tokens: float
    prompts: float
    origin: str


@dataclass(frozen=True)
class StagePrice:
    """What one stage takes; `gpu_hours` are those in which GPUs work, and the rest of the wall time is start-up, storage and waiting."""

    stage: str
    gpu_hours: float
    wall_seconds: float
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class ClusterPrice:
    """The price of a study on a stated cluster."""

    cluster: StatedCluster
    rates: Rates
    stages: tuple[StagePrice, ...]
    assumed: Assumptions
    per_gpu: int = 1

    @property
    def wall_seconds(self) -> float:
        """Of all stages, one after the other."""
        return sum(stage.wall_seconds for stage in self.stages)

    @property
    def gpu_hours(self) -> float:
        """In which GPUs work."""
        return sum(stage.gpu_hours for stage in self.stages)

    @property
    def held_gpu_hours(self) -> float:
        """For which GPUs are paid, if all of them are held from the first stage to the last."""
        return self.wall_seconds * self.cluster.gpus / SECONDS_AN_HOUR


def layer_weights(shape: ModelShape) -> int:
    """The weights of the matrices of all layers."""
    return shape.layers * sum(inputs * outputs for inputs, outputs in shape.matrices().values())


def stated_rates(planning: Planning, cluster: StatedCluster, shape: ModelShape, assumed: Assumptions) -> Rates:
    """Those of the study, and where it names none, those of the data sheet."""
    resources, weights = planning.config.resources, layer_weights(shape)
    peak = cluster.kind.teraflops * 1e12
    training = resources.training_tokens_per_second or assumed.training_share * peak / (4 * weights)
    prompts = resources.prompts_per_second or assumed.answering_share * peak / (2 * weights * assumed.prompt_tokens)
    named = [name for name in ("training_tokens_per_second", "prompts_per_second") if getattr(resources, name)]
    sheet = f"{cluster.kind.teraflops:g} TFLOP/s of bfloat16"
    origin = " and ".join([*(f"resources.{name}" for name in named), *([sheet] if len(named) < 2 else [])])
    return Rates(training, prompts, origin)


def makespan(seconds: Sequence[float], groups: int, assumed: Assumptions) -> float:
    """When the last of these trials ends, the longest first, each in the group that is free next; some groups are slower."""
    slow = round(groups * assumed.slow_share)
    speeds = [assumed.slow_factor] * slow + [1.0] * (groups - slow)
    free = [(0.0, number) for number in range(groups)]
    ended = 0.0
    for length in sorted(seconds, reverse=True):
        at, number = heapq.heappop(free)
        at += length * speeds[number]
        ended = max(ended, at)
        heapq.heappush(free, (at, number))
    return ended


def price_on_cluster(
    planning: Planning,
    by_stage: dict[str, Prompts],
    tokens: RowTokens,
    shape: ModelShape,
    disk: DiskPrice,
    stated: StatedCluster,
    assumed: Assumptions = Assumptions(),
) -> ClusterPrice:
    """The price of every stage that works on GPUs; raises UserError if the study asks for more than the cluster has, or does not fit."""
    cluster = plan_cluster(planning.config.resources, stated.nodes)
    memory = memory_price(planning.config, planning.trials, shape)
    if memory is not None and not memory.fits(stated.kind.memory_gb):
        raise UserError(
            f"the study needs {byte_text(memory.least)} of one GPU and room for a pass"
            f"{f', {memory.per_gpu} times (resources.per_gpu)' if memory.per_gpu > 1 else ''}, and {stated.kind.name} has "
            f"{stated.kind.memory_gb:g} GB",
            field=FIELD,
        )
    weights = shape.parameters * NUMBER_BYTES[planning.config.model.dtype]
    pricing = _Pricing(planning, stated, cluster, stated_rates(planning, stated, shape, assumed), assumed, weights)
    stages = [pricing.answering(stage, prompts) for stage, prompts in by_stage.items() if prompts.base]
    stages.append(pricing.search(tokens, disk))
    adapters = sum(prompts.adapters for prompts in by_stage.values())
    if adapters:
        stages.append(pricing.evaluate(adapters, disk))
    return ClusterPrice(stated, pricing.rates, tuple(stages), assumed, cluster.per_gpu)


@dataclass(frozen=True)
class _Pricing:
    planning: Planning
    stated: StatedCluster
    cluster: Cluster
    rates: Rates
    assumed: Assumptions
    weights: int  # bytes of the model

    def answering(self, stage: str, prompts: Prompts) -> StagePrice:
        """The base model asked by all GPUs."""
        return self._pipeline(stage, prompts.base, 0)

    def evaluate(self, prompts: int, disk: DiskPrice) -> StagePrice:
        """Adapters asked by all GPUs: each reads every adapter of which it has a chunk."""
        chunks = math.ceil(prompts / self._chunk_prompts)
        loads = min(chunks, self.planning.adapters * self.cluster.generators)
        return self._pipeline("evaluate", prompts, loads * disk.largest_adapter)

    @property
    def _chunk_prompts(self) -> int:
        return chunk_size(self.planning.facts or 1, chunk_facts=most_chunk_facts(self.planning.config.resources)) * PROMPTS_PER_SET

    def _pipeline(self, stage: str, prompts: int, adapters: int) -> StagePrice:
        chunk = min(self._chunk_prompts, prompts)
        at_work = min(self.cluster.generators, math.ceil(prompts / chunk))
        busy = prompts / self.rates.prompts  # of GPUs
        # A straggler takes fewer chunks; only its last one keeps the others waiting.
        tail = chunk / self._each(self.rates.prompts) * self.assumed.slow_factor
        written = prompts * self.assumed.answer_bytes
        read = len(self.stated.nodes) * self.weights + adapters
        wall = (
            self.assumed.process_seconds
            + self._storage(read + written)
            + busy * self.cluster.per_gpu / at_work
            + (tail if at_work > 1 else 0.0)
        )
        return StagePrice(stage, busy / SECONDS_AN_HOUR, wall, read, written)

    def search(self, tokens: RowTokens, disk: DiskPrice) -> StagePrice:
        """All trials, at most: they may stop early."""
        trials, workers = self.planning.trials, self.planning.config.resources.workers_per_trial
        groups = min(self.cluster.concurrent_trials, trials.count)
        specs = all_specs(trials, tokens)
        working = [self._working(spec, tokens, workers) for spec in specs]
        epochs = trials.total(lambda spec: spec.max_epochs)
        written = epochs * disk.largest_checkpoint + disk.adapters
        per_epoch = self.assumed.epoch_seconds + self._storage(disk.largest_checkpoint * groups)  # all write at once
        waiting = [self.assumed.trial_seconds + spec.max_epochs * per_epoch for spec in specs]
        read = len(self.stated.nodes) * self.weights
        trained = makespan([one + other for one, other in zip(working, waiting, strict=True)], groups, self.assumed)
        wall = self.assumed.process_seconds + self._storage(read) + trained
        return StagePrice("search", sum(working) * workers / self.cluster.per_gpu / SECONDS_AN_HOUR, wall, read, written)

    def _working(self, spec: TrialSpec, tokens: RowTokens, workers: int) -> float:
        """Seconds in which a trial's workers compute."""
        training, prompts = self._each(self.rates.training_tokens), self._each(self.rates.prompts)
        return (tokens.of(spec) / training + eval_prompts(spec) / prompts) / workers

    def _each(self, rate: float) -> float:
        """Of a GPU's rate, what each of the processes has that share it."""
        return rate / self.cluster.per_gpu

    def _storage(self, count: int) -> float:
        return count / (self.assumed.storage_gb_per_second * GIGA)


def all_specs(trials: PlannedTrials, tokens: RowTokens) -> list[TrialSpec]:
    """Every trial, with the one of most tokens in place of each that is still to be proposed."""
    return [*trials.known, *([max(trials.space, key=tokens.of)] * trials.to_come if trials.to_come else [])]


def cluster_table(price: ClusterPrice) -> Table:
    """The price as a table of at most 80 columns."""
    table = Table(title=f"on {price.cluster}, which is not there: stated rates, nothing measured", title_justify="left")
    table.add_column("stage", no_wrap=True)
    for name in ("GPU-hours", "wall time", "read", "written"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in price.stages:
        moved = byte_text(stage.read_bytes), byte_text(stage.written_bytes)
        table.add_row(stage.stage, f"{stage.gpu_hours:,.2f}", duration_text(stage.wall_seconds), *moved)
    moved = byte_text(sum(one.read_bytes for one in price.stages)), byte_text(sum(one.written_bytes for one in price.stages))
    table.add_row("in all", f"{price.gpu_hours:,.2f}", duration_text(price.wall_seconds), *moved, end_section=True)
    return table


def cluster_lines(price: ClusterPrice) -> list[str]:
    """What goes with the table: what is held, the rates, and all that is assumed."""
    rates = price.rates
    return [
        f"held from the first stage to the last: {price.held_gpu_hours:,.1f} GPU-hours",
        f"rates of a GPU, by {rates.origin}: {rates.training_tokens:,.0f} tokens trained on and {rates.prompts:,.1f} prompts a second",
        *(f"assumed: {line}" for line in price.assumed.lines()),
        *([f"assumed: {price.per_gpu} processes on a GPU share its rate, and gain nothing by it"] if price.per_gpu > 1 else []),
        "not in it: paraphrases, benchmark questions, surprisal and drift, lost nodes, fetching what comes from the Hub",
    ]


def duration_text(seconds: float) -> str:
    """Hours and minutes."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
