"""The options of the benchmarks: one dataclass each, from which both command lines are made."""

import os
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from kp.errors import UserError
from kp.vocabulary import LossTokens, Packing

VLLM_PYTHON = "KP_VLLM_PYTHON"
"""Environment variable with the path of the interpreter of an environment with vLLM."""

MOST_PARAPHRASES = 10
"""Paraphrases that every built-in fact has."""

MOST_SHOTS = 5
"""Development questions that every subject of MMLU has."""


class DType(StrEnum):
    """How weights are stored and multiplied."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class Shape(StrEnum):
    """Architectures that are made with random weights, to measure speed where no weights are available."""

    LLAMA_3_1_8B = "llama-3.1-8b"
    TINY = "tiny"  # of the same family, to try a command line on any machine; its speed means nothing


class Device(StrEnum):
    """Where training runs."""

    AUTO = "auto"  # CUDA if there is a GPU
    CPU = "cpu"
    CUDA = "cuda"


class Streams(StrEnum):
    """The number of bzip2 streams of a synthetic dump."""

    MANY = "many"
    ONE = "one"


def _vllm_python() -> Path | None:
    named = os.environ.get(VLLM_PYTHON)
    return Path(named) if named else None


def _validate_counts(options: object, *names: str) -> None:
    """Raise UserError for the first of these fields that is there and below 1."""
    for name in names:
        if (given := getattr(options, name)) is not None and given < 1:
            raise UserError(f"{given}, expected 1 or more", field=name)


def _validate_json(json: Path | None) -> None:
    if json is not None and json.suffix != ".json":
        raise UserError(f"'{json}' is no .json file", field="json")


@dataclass(frozen=True)
class CategoriseOptions:
    """How fast the engine answers the questions of a categorisation, compared with the released script's way and vLLM."""

    facts: int = 300
    """Facts that are asked, each under the 10 prompts of S0."""
    rounds: int = 3
    """How often every implementation takes its turn."""
    questions: Path | None = None
    """A .jsonl file with `question` and, for categories, `answer` or `answers`. Absent: the built-in facts."""
    seed: int = 0
    """Seed of the draw of facts."""
    model: str = "smollm2-135m-instruct"
    """The embedded model's name, a folder in transformers' format, or a Hub id."""
    shape: Shape | None = None
    """Make a model of this shape with random weights, and take only the tokenizer from `model`."""
    dtype: DType = DType.BFLOAT16
    """Dtype of the weights."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes CUDA if there is a GPU."""
    threads: int | None = None
    """CPU threads of each implementation; as many as there are cores where absent."""
    processes: int | None = None
    """Processes among which kp divides questions and threads on a CPU. Absent: as many as a study has generators."""
    max_new_tokens: int = 32
    """Longest answer, in tokens."""
    batch_size: int = 256
    """The most rows that kp and vLLM decode together; the released way has its own 128."""
    released_facts: int = 128
    """Facts that the slow released way answers in all rounds together, each under all 10 prompts; 128 fills its batches."""
    continuous_facts: int = 0
    """Facts that transformers' continuous batching answers in every round, each under all 10 prompts; at most `facts`, 0 leaves it out."""
    exact: int = 0
    """Instead of a benchmark: compare kp's float32 answers to this many prompts with those of plain one-at-a-time generation."""
    vllm_python: Path | None = field(default_factory=_vllm_python)
    """Interpreter of an environment with vLLM, by default $KP_VLLM_PYTHON. Absent: vLLM is left out."""
    json: Path | None = None
    """Write the result to this .json file, and as a table into a .md file next to it."""

    def __post_init__(self) -> None:
        _validate_counts(self, "facts", "rounds", "max_new_tokens", "batch_size", "released_facts")
        if not 0 <= self.continuous_facts <= self.facts:
            raise UserError(f"{self.continuous_facts}, expected 0 to {self.facts}, the facts that are asked", field="continuous_facts")
        if self.exact < 0:
            raise UserError(f"{self.exact}, expected a number of prompts, or 0 for the benchmark", field="exact")
        _validate_counts(self, "threads", "processes")
        _validate_json(self.json)

    @property
    def cpu_threads(self) -> int:
        """Threads that are used."""
        return self.threads or os.cpu_count() or 1


@dataclass(frozen=True)
class EvaluateOptions:
    """How fast adapters are evaluated, compared with one process per adapter, which loads the base, and with the released script's way.

    The adapters are made with random weights: some that change all layers, as many that change the upper 15, and as many the upper 8.
    """

    adapters: int = 2
    """Adapters of each kind."""
    facts: int = 40
    """Facts that each is asked, under the 10 prompts of S1."""
    rounds: int = 1
    """How often every implementation takes its turn."""
    rank: int = 8
    """Of the adapters."""
    seed: int = 0
    """Seed of the draw of facts and of the adapters' weights."""
    model: str = "smollm2-135m-instruct"
    """The embedded model's name, a folder in transformers' format, or a Hub id."""
    shape: Shape | None = None
    """Make a model of this shape with random weights, and take only the tokenizer from `model`."""
    dtype: DType = DType.BFLOAT16
    """Dtype of the weights."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes CUDA if there is a GPU."""
    threads: int | None = None
    """CPU threads of each implementation; as many as there are cores where absent."""
    processes: int | None = None
    """Processes at once, among which threads are divided on a CPU. Absent: as many as a study has generators."""
    max_new_tokens: int = 32
    """Longest answer, in tokens."""
    batch_size: int = 256
    """The most rows that kp decodes together."""
    released_prompts: int = 64
    """Prompts that the slow released way answers in all rounds together, with one adapter of all layers."""
    json: Path | None = None
    """Write the result to this .json file, and as a table into a .md file next to it."""

    def __post_init__(self) -> None:
        _validate_counts(
            self, "adapters", "facts", "rounds", "rank", "max_new_tokens", "batch_size", "released_prompts", "threads", "processes"
        )
        _validate_json(self.json)

    @property
    def cpu_threads(self) -> int:
        """Threads that are used."""
        return self.threads or os.cpu_count() or 1


@dataclass(frozen=True)
class DumpOptions:
    """How fast a knowledge-graph dump is read, compared with a plain Python loop over the same file; the dump is synthetic, of any size."""

    triples: int = 1_000_000
    """Lines of the dump, comments not counted."""
    loop_triples: int | None = None
    """Lines that the slow Python loop reads: the dump's first ones, in a separate file; then rates are compared. Absent: all."""
    rounds: int = 3
    """How often every implementation takes its turn."""
    seed: int = 0
    """Seed of the dump; the same seed and size give the same file byte for byte."""
    workers: int | None = None
    """Processes or threads with which kp reads, and which make the dump. Absent: one per core."""
    streams: Streams = Streams.MANY
    """Make the file with many bzip2 streams, as parallel compressors do, or with one, as `bzip2` does (in one process, so slower)."""
    folder: Path | None = None
    """Keep the dump here, and reuse it if it was made with the same seed and size. Absent: a temporary folder."""
    json: Path | None = None
    """Write the result to this .json file, and as a table into a .md file next to it."""

    def __post_init__(self) -> None:
        _validate_counts(self, "triples", "loop_triples", "rounds", "workers")
        if self.seed < 0:
            raise UserError(f"{self.seed}, expected 0 or more", field="seed")
        if self.loop_triples is not None and self.loop_triples > self.triples:
            raise UserError(f"{self.loop_triples}, the dump has {self.triples}", field="loop_triples")
        if self.folder is not None and not self.folder.is_dir():
            raise UserError(f"'{self.folder}' is no folder", field="folder")
        _validate_json(self.json)

    @property
    def processes(self) -> int:
        """Workers that are used."""
        return self.workers or os.cpu_count() or 1

    @property
    def loop_lines(self) -> int:
        """Lines that the loop reads."""
        return self.loop_triples or self.triples


@dataclass(frozen=True)
class TrainOptions:
    """How fast a trial trains, compared with the released script's way: transformers' Trainer on a PEFT model, the same rows and steps."""

    facts: int = 128
    """Built-in facts to train on, drawn as in a study."""
    paraphrases: int = 0
    """Paraphrased questions to train on in addition to each fact's own, at most 10."""
    epochs: int = 6
    """Passes over the rows; the implementations take turns after each epoch."""
    batch_size: int = 8
    """Rows in one optimiser step."""
    rank: int = 8
    """LoRA rank; alpha is twice the rank, scaled by its square root (rsLoRA), on the three MLP matrices, as in the released script."""
    layers: str = "all"
    """Decoder layers that the adapter changes, as `training.layers`: `all`, `upper:8`, or numbers such as `20,25`. Of fewer than all, the
    released way also trains an adapter of all layers, to compare with."""
    learning_rate: float = 1e-3
    """Peak learning rate, with linear decay to 0."""
    dropout: float = 0.0
    """LoRA dropout; without it both take the same steps, and their losses can be compared step by step. The released script has 0.1."""
    loss: LossTokens = LossTokens.FULL_TEXT
    """Tokens that the loss is taken on: `full_text` as in the released script, `answer` as in a study."""
    packing: Packing = Packing.PREFIX_TREE
    """How kp lays out the rows of a batch; `padded` shows what the prefix tree gains."""
    seed: int = 0
    """Seed of the draw of facts, the order of rows, and LoRA's initial weights."""
    model: str = "smollm2-135m-instruct"
    """The embedded model's name, a folder in transformers' format, or a Hub id."""
    shape: Shape | None = None
    """Train a base of this shape with random weights, and take only the tokenizer from `model`."""
    dtype: DType = DType.FLOAT32
    """Dtype of the base's weights."""
    device: Device = Device.AUTO
    """`auto` takes CUDA if there is a GPU; of several GPUs, only the first visible one."""
    threads: int | None = None
    """CPU threads of each implementation; as many as there are cores where absent."""
    json: Path | None = None
    """Write the result to this .json file, and as a table into a .md file next to it."""

    def __post_init__(self) -> None:
        _validate_counts(self, "facts", "epochs", "batch_size", "rank", "threads")
        if self.seed < 0:
            raise UserError(f"{self.seed}, expected 0 or more", field="seed")
        if not 0 <= self.paraphrases <= MOST_PARAPHRASES:
            raise UserError(f"{self.paraphrases}, expected 0 to {MOST_PARAPHRASES}", field="paraphrases")
        if not 0 < self.learning_rate < float("inf"):
            raise UserError(f"{self.learning_rate}, expected a number above 0", field="learning_rate")
        if not 0 <= self.dropout < 1:
            raise UserError(f"{self.dropout}, expected 0 or more, and less than 1", field="dropout")
        _validate_json(self.json)

    @property
    def cpu_threads(self) -> int:
        """Threads that are used."""
        return self.threads or os.cpu_count() or 1


@dataclass(frozen=True)
class BenchmarksOptions:
    """How fast multiple-choice questions with shots are scored, compared with lm-eval's own model class for transformers (`hf`)."""

    mmlu: Path | None = None
    """Folder with MMLU as mmlu_dev and mmlu_test, each .jsonl or .jsonl.gz with subject, question, choices and answer (its index). Absent:
    the built-in task kp_mmlu_dev, whose questions share fewer shots."""
    per_subject: int = 10
    """The first questions of every subject that are asked; fewer where a subject has fewer."""
    shots: int | None = None
    """Answered questions of the same subject before each question. Absent: the most there are, 5 of MMLU and 4 of kp_mmlu_dev."""
    hf_questions: int = 57
    """Questions that lm-eval's slower model answers in all rounds together, spread over all; then rates are compared."""
    rounds: int = 3
    """How many turns every implementation takes; each answers another part of its questions, whole subjects together."""
    batch_size: int = 256
    """The most rows that kp reads together; memory may allow fewer."""
    hf_batch_size: int | None = None
    """Rows of a batch of lm-eval's model. Absent: 1 on a CPU, where more are no faster, and 16 on a GPU."""
    model: str = "smollm2-135m-instruct"
    """The embedded model's name, a folder in transformers' format, or a Hub id."""
    shape: Shape | None = None
    """Make a model of this shape with random weights, and take only the tokenizer from `model`."""
    dtype: DType = DType.FLOAT32
    """Dtype of the weights."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes CUDA if there is a GPU."""
    threads: int | None = None
    """CPU threads of each implementation; as many as there are cores where absent."""
    json: Path | None = None
    """Write the result to this .json file, and as a table into a .md file next to it."""

    def __post_init__(self) -> None:
        _validate_counts(self, "per_subject", "hf_questions", "rounds", "batch_size", "hf_batch_size", "threads")
        if self.shots is not None and not 0 <= self.shots <= self._most_shots:
            source = "kp_mmlu_dev" if self.mmlu is None else "MMLU"
            raise UserError(f"{self.shots}, every question of {source} has 0 to {self._most_shots}", field="shots")
        if self.hf_questions < self.rounds:
            raise UserError(f"{self.hf_questions}, expected one or more for each of {self.rounds} rounds", field="hf_questions")
        _validate_json(self.json)

    @property
    def n_shots(self) -> int:
        """Shots before each question."""
        return self._most_shots if self.shots is None else self.shots

    @property
    def _most_shots(self) -> int:
        return MOST_SHOTS if self.mmlu else MOST_SHOTS - 1  # in kp_mmlu_dev one of them is asked

    @property
    def cpu_threads(self) -> int:
        """Threads that are used."""
        return self.threads or os.cpu_count() or 1
