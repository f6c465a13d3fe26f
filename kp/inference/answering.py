"""From questions to judged answers: the one code path for the base model, an adapter and a model in training.

Work is divided into *chunks*, some facts under all prompts of one shot set, so that the generator always has waiting rows, whichever prompt
they follow. A chunk is generated whole or not at all: a run that was killed and resumed forms the same batches as one that was not, so
low-precision answers do not depend on where it was interrupted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.resources import ResourcesConfig
from kp.config.study import ModelConfig
from kp.generation.prompt_tokens import PromptTokens
from kp.generation.protocol import DEFAULT_ROWS, Generator, ReadPrompt
from kp.generation.vllm_environment import remote_options
from kp.metrics.matching import AnswerKeys, Matches
from kp.metrics.refusals import is_refusal
from kp.models.loading import load_model, load_tokenizer, resolve_model
from kp.models.memory import share_gpu, use_expandable_segments
from kp.models.names import NAME_FIELD, ResolvedModel
from kp.models.node_copies import on_this_node
from kp.prompts import Shot, ShotSets, messages
from kp.vocabulary import Attention, Engine, ShotSet

if TYPE_CHECKING:
    from kp.generation.hf import HFGenerator

# Facts per chunk: enough for a full batch most of the time, few enough that a kill costs little and actors get equal shares. A GPU decodes
# four times as many rows together as a CPU, and answers 512 facts under ten prompts in seconds.
CHUNK_FACTS = 128
MOST_CHUNK_FACTS = 512
LARGE_STUDY = 8192  # facts
LEAST_CHUNKS = 4  # per shot set

ANSWER_KEY = ("shot_set", "prompt_index", "fact_id")
"""The columns that identify an answer of one model, in sorting order."""

CHUNKS = pa.schema(
    [
        pa.field("chunk_id", pa.string(), nullable=False),
        pa.field("shot_set", pa.string(), nullable=False),
        pa.field("fact_ids", pa.list_(pa.string()), nullable=False),
    ]
)


@dataclass(frozen=True)
class EngineSpec:
    """How an actor or worker makes its generator; `vllm` supports adapters up to `max_lora_rank`, without it none, `hf` any."""

    model: ModelConfig
    max_new_tokens: int
    stop_at_newline: bool
    batch_size: int | None  # None: as suits the device
    threads: int
    use_gpu: bool
    engine: Engine = Engine.HF
    vllm_python: str | None = None
    max_lora_rank: int | None = None
    attention: Attention = Attention.AUTO  # of a model in training; `auto` is its own default
    activation_cache_gib: float = 2.0  # of a model in training: room for what layers without an adapter compute
    gradient_checkpointing: bool = False  # of a model in training
    cuda_graphs: bool = False  # of `hf`, except for a model in training
    chunk_facts: int = CHUNK_FACTS  # most facts of a chunk in a study that is not large
    per_gpu: int = 1  # processes that share a GPU
    model_field: str = NAME_FIELD  # by which the study names the model, in messages
    vllm_memory_share: float = 0.9  # of the GPU's memory, for this engine
    prompt_tokens: PromptTokens | None = None  # by which the tokenizer of another environment is checked

    def remote_options(self) -> dict[str, Any]:
        """Ray options, in addition to the resources, that start an actor in an environment in which `load` works."""
        if self.engine is Engine.HF:
            return {}
        assert self.vllm_python is not None, "ensured by the study's config"
        return remote_options(self.vllm_python, self.threads)

    def load(self) -> tuple[ResolvedModel, Generator]:
        """Load the base model into this process and wrap it."""
        import torch

        torch.set_num_threads(self.threads)
        resolved = on_this_node(resolve_model(self.model, self.model_field), self.model_field)
        if self.engine is Engine.VLLM:
            return resolved, self._vllm_generator(resolved)
        if self.use_gpu:
            use_expandable_segments()
            share_gpu(self.per_gpu)
        model = load_model(resolved, self.model.dtype, self._device)
        return resolved, self.generator(model, load_tokenizer(resolved, self.model_field))

    @property
    def _device(self) -> str:
        return "cuda" if self.use_gpu else "cpu"

    def _vllm_generator(self, resolved: ResolvedModel) -> Generator:
        from kp.generation.vllm import VLLMGenerator

        tokenizer = load_tokenizer(resolved, self.model_field)
        if self.prompt_tokens is not None:
            self.prompt_tokens.validate(tokenizer)
        return VLLMGenerator(
            resolved.path,
            tokenizer,
            dtype=self.model.dtype,
            device=self._device,
            max_new_tokens=self.max_new_tokens,
            stop_at_newline=self.stop_at_newline,
            batch_size=self.batch_size or DEFAULT_ROWS,
            max_lora_rank=self.max_lora_rank,
            memory_share=self.vllm_memory_share,
        )

    def generator(self, model: Any, tokenizer: Any) -> "HFGenerator":
        """Wrap a loaded model."""
        from kp.generation.hf import HFGenerator

        return HFGenerator(
            model,
            tokenizer,
            max_new_tokens=self.max_new_tokens,
            stop_at_newline=self.stop_at_newline,
            batch_size=self.batch_size,
            cuda_graphs=self.cuda_graphs,
        )


@dataclass(frozen=True)
class JudgedAnswer:
    """One raw answer and the verdict of each matcher."""

    text: str
    finish_reason: str
    matches: Matches
    refused: bool


def read_questions(generator: Generator, facts: pa.Table, prompts: Sequence[Sequence[Shot]]) -> list[ReadPrompt]:
    """The questions of `facts` (FACTS) under each of `prompts`, in the order in which `answer_questions` asks them."""
    return generator.read([messages(shots, question) for shots in prompts for question in facts["question"].to_pylist()])


def answer_questions(generator: Generator, facts: pa.Table, asked: Sequence[ReadPrompt], keys: AnswerKeys) -> list[list[JudgedAnswer]]:
    """Answer `asked`, the questions of `facts` (FACTS) as read; returns, for each prompt, the answers in the order of the facts.

    `keys` are those of all facts of the study: they know what other objects an answer may name.
    """
    right = keys.of_facts(facts)
    generations = generator.generate(asked)
    answers = [
        JudgedAnswer(made.text, made.finish_reason, key.judge(made.text), is_refusal(made.text))
        for made, key in zip(generations, right * (len(asked) // len(right)), strict=True)
    ]
    return [answers[start : start + len(right)] for start in range(0, len(answers), len(right))]


def make_chunks(facts: pl.DataFrame, shot_sets: Sequence[ShotSet], answers_each: int = 1, chunk_facts: int = CHUNK_FACTS) -> pa.Table:
    """Divide the facts into chunks for each of these shot sets, with questions of similar length together (CHUNKS).

    The more answers a question gets under each prompt, the fewer facts a chunk has, so that all chunks are the same amount of work.
    """
    parts = cut_by_length(facts, answers_each, chunk_facts)
    rows = [
        {"chunk_id": chunk_name(shot_set, start, fact_ids), "shot_set": shot_set.value, "fact_ids": fact_ids}
        for shot_set in shot_sets
        for start, fact_ids in parts.items()
    ]
    return pa.Table.from_pylist(rows, schema=CHUNKS)


def chunk_name(of: str, start: int, fact_ids: Sequence[str]) -> str:
    """The id of a chunk of `of`; the same facts divided into chunks of another size have others."""
    return f"{of}-{start:08d}-{len(fact_ids)}"


def cut_by_length(facts: pl.DataFrame, answers_each: int = 1, chunk_facts: int = CHUNK_FACTS) -> dict[int, list[str]]:
    """The ids of the facts of each chunk, with questions of similar length together, by the index at which it starts."""
    by_length = facts.sort(pl.col("question").str.len_chars(), "fact_id")["fact_id"].to_list()
    size = chunk_size(len(by_length), answers_each, chunk_facts)
    return {start: by_length[start : start + size] for start in range(0, len(by_length), size)}


def most_chunk_facts(resources: ResourcesConfig) -> int:
    """Most facts of a chunk in a study that is not large.

    By what the study says of GPUs, and not by what is there: continued on other nodes, it finds the chunks that it has made.
    """
    return MOST_CHUNK_FACTS if resources.states_gpus else CHUNK_FACTS


def chunk_size(facts: int, answers_each: int = 1, chunk_facts: int = CHUNK_FACTS) -> int:
    """Facts of a chunk, if so many are asked on one shot set; `chunk_facts` is the most in a study that is not large."""
    most = chunk_facts if facts < LARGE_STUDY else MOST_CHUNK_FACTS
    return max(1, min(most // answers_each, -(-facts // LEAST_CHUNKS)))


def answer_chunk(
    generator: Generator, facts: pa.Table, shot_sets: ShotSets, chunk: Mapping[str, Any], model_id: str, keys: AnswerKeys
) -> pa.Table:
    """Generate and judge one chunk's answers (ANSWERS); `facts` are those of the chunk, in its order, `keys` those of all facts."""
    asked = read_questions(generator, facts, shot_sets[ShotSet(chunk["shot_set"])])
    answers = answer_questions(generator, facts, asked, keys)
    rows = [
        {
            "fact_id": fact_id,
            "model_id": model_id,
            "shot_set": chunk["shot_set"],
            "prompt_index": prompt,
            "answer": answer.text,
            "finish_reason": answer.finish_reason,
            "match_strict": answer.matches.strict,
            "match_exact": answer.matches.exact,
            "match_released": answer.matches.released,
            "refused": answer.refused,
        }
        for prompt, under_prompt in enumerate(answers)
        for fact_id, answer in zip(chunk["fact_ids"], under_prompt, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=schema.ANSWERS)


class FactIndex:
    """Looks up facts by id."""

    def __init__(self, facts: pa.Table) -> None:
        self._facts = facts
        self._row = {fact_id: row for row, fact_id in enumerate(facts["fact_id"].to_pylist())}

    def take(self, fact_ids: Sequence[str]) -> pa.Table:
        """The facts with these ids, in this order; raises KeyError for an unknown id."""
        return self._facts.take(pa.array([self._row[fact_id] for fact_id in fact_ids], pa.int64()))


def sorted_answers(answers: pa.Table, key: Sequence[str] = ANSWER_KEY) -> pa.Table:
    """Answers (ANSWERS, or others with this key) in the order of their file, whatever order the cluster finished in."""
    return answers.sort_by([(name, "ascending") for name in key])
