"""Questions in, judged answers out: the one path by which the base model, an adapter and a model in training are asked.

Work is cut into *chunks*, all the questions of one prompt up to CHUNK_ROWS. A chunk is generated whole or not at all, so a run that was
killed and resumed forms the same batches as one that was not, and low-precision answers do not depend on where it was cut.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config import ModelConfig
from kp.generation import Generator
from kp.matching import Matches, match_all
from kp.models import ResolvedModel, load_model, load_tokenizer, resolve_model
from kp.prompts import Shot, ShotSets, messages
from kp.refusals import is_refusal
from kp.vocabulary import ShotSet

if TYPE_CHECKING:
    from kp.generation.hf import HFGenerator

CHUNK_ROWS = 256

CHUNKS = pa.schema(
    [
        pa.field("chunk_id", pa.string(), nullable=False),
        pa.field("shot_set", pa.string(), nullable=False),
        pa.field("prompt_index", pa.int32(), nullable=False),
        pa.field("fact_ids", pa.list_(pa.string()), nullable=False),
    ]
)


@dataclass(frozen=True)
class EngineSpec:
    """How an actor or worker makes its generator."""

    model: ModelConfig
    max_new_tokens: int
    stop_at_newline: bool
    batch_size: int
    threads: int
    use_gpu: bool

    def load(self) -> tuple[ResolvedModel, "HFGenerator"]:
        """Load the base model into this process and wrap it."""
        import torch

        torch.set_num_threads(self.threads)
        resolved = resolve_model(self.model)
        model = load_model(resolved, self.model.dtype, "cuda" if self.use_gpu else "cpu")
        return resolved, self.generator(model, load_tokenizer(resolved))

    def generator(self, model: Any, tokenizer: Any) -> "HFGenerator":
        """Wrap a loaded model."""
        from kp.generation.hf import HFGenerator

        return HFGenerator(
            model, tokenizer, max_new_tokens=self.max_new_tokens, stop_at_newline=self.stop_at_newline, batch_size=self.batch_size
        )


@dataclass(frozen=True)
class JudgedAnswer:
    """One raw answer and what each matcher says of it."""

    text: str
    finish_reason: str
    matches: Matches
    refused: bool


def answer_questions(generator: Generator, facts: pa.Table, shots: Sequence[Shot]) -> list[JudgedAnswer]:
    """Ask the questions of `facts` (FACTS) under one prompt, in their order."""
    conversations = [messages(shots, question) for question in facts["question"].to_pylist()]
    generations = generator.generate(conversations)
    return [
        JudgedAnswer(made.text, made.finish_reason, match_all(made.text, aliases), is_refusal(made.text))
        for made, aliases in zip(generations, facts["answers"].to_pylist(), strict=True)
    ]


def make_chunks(facts: pl.DataFrame, shot_sets: Sequence[ShotSet], prompts: int) -> pa.Table:
    """Cut the questions of these shot sets into chunks, neighbours in length together (CHUNKS)."""
    by_length = facts.sort(pl.col("question").str.len_chars(), "fact_id")["fact_id"].to_list()
    rows = [
        {
            "chunk_id": f"{shot_set}-{prompt:02d}-{start:08d}",
            "shot_set": shot_set.value,
            "prompt_index": prompt,
            "fact_ids": by_length[start : start + CHUNK_ROWS],
        }
        for shot_set in shot_sets
        for prompt in range(prompts)
        for start in range(0, len(by_length), CHUNK_ROWS)
    ]
    return pa.Table.from_pylist(rows, schema=CHUNKS)


def answer_chunk(generator: Generator, facts: pa.Table, shot_sets: ShotSets, chunk: Mapping[str, Any], model_id: str) -> pa.Table:
    """Generate and judge one chunk's answers (ANSWERS); `facts` are those the chunk names, in its order."""
    answers = answer_questions(generator, facts, shot_sets[ShotSet(chunk["shot_set"])][chunk["prompt_index"]])
    rows = [
        {
            "fact_id": fact_id,
            "model_id": model_id,
            "shot_set": chunk["shot_set"],
            "prompt_index": chunk["prompt_index"],
            "answer": answer.text,
            "finish_reason": answer.finish_reason,
            "match_strict": answer.matches.strict,
            "match_exact": answer.matches.exact,
            "match_released": answer.matches.released,
            "refused": answer.refused,
        }
        for fact_id, answer in zip(chunk["fact_ids"], answers, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=schema.ANSWERS)


class FactIndex:
    """Looks facts up by id."""

    def __init__(self, facts: pa.Table) -> None:
        self._facts = facts
        self._row = {fact_id: row for row, fact_id in enumerate(facts["fact_id"].to_pylist())}

    def take(self, fact_ids: Sequence[str]) -> pa.Table:
        """The facts of these ids, in this order; raises KeyError for an id that is not there."""
        return self._facts.take([self._row[fact_id] for fact_id in fact_ids])


def sorted_answers(answers: pa.Table) -> pa.Table:
    """ANSWERS in the one order that its file has, whatever order the cluster finished in."""
    return answers.sort_by([("shot_set", "ascending"), ("prompt_index", "ascending"), ("fact_id", "ascending")])
