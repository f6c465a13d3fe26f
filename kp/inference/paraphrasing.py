"""Paraphrase questions with an instruct model: chunks of facts in the same pipeline as everything that a base model is asked.

The first reply is greedy. If it has too few usable paraphrases, further replies are sampled with a seed of the fact, so a run that was
interrupted, or that also asks for other facts, gets the same replies. Every reply is stored as it is; interpreting it is a pure function.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.study import ParaphraseConfig
from kp.facts.paraphrases import n_missing, paraphrase_prompt, reply_seed
from kp.generation.protocol import Generation, Generator, ignore_answers
from kp.inference.answering import EngineSpec, chunk_name, cut_by_length
from kp.prompts import Messages

FURTHER_REPLIES = 2  # sampled for a fact whose greedy reply has too few
TEMPERATURE = 0.8  # of those: varied enough for something new, and still about the question


@dataclass(frozen=True)
class Paraphrasing:
    """One greedy reply for every fact and, if it has too few paraphrases, FURTHER_REPLIES sampled ones (PARAPHRASE_REPLIES)."""

    facts: pa.Table  # FACTS, each with a subject that its question names
    engine: EngineSpec  # of the model that paraphrases
    settings: ParaphraseConfig
    seed: int  # of the study

    stage: ClassVar[str] = "paraphrases"
    unit: ClassVar[str] = "facts"
    answer_schema: ClassVar[pa.Schema] = schema.PARAPHRASE_REPLIES
    key: ClassVar[Sequence[str]] = ("fact_id",)

    @property
    def answers_each(self) -> int:
        """One row with all its replies."""
        return 1

    def chunks(self) -> pa.Table:
        """`chunk_id` and `fact_ids`, with questions of similar length together."""
        parts = cut_by_length(pl.DataFrame(pl.from_arrow(self.facts)), chunk_facts=self.engine.chunk_facts)
        return pa.Table.from_pylist([{"chunk_id": chunk_name(self.stage, start, ids), "fact_ids": ids} for start, ids in parts.items()])

    def answer(self, generator: Generator, facts: pa.Table, chunk: Mapping[str, Any], model_id: str) -> pa.Table:
        """The PARAPHRASE_REPLIES of one chunk."""
        asked = facts.to_pylist()
        chats = [[{"role": "user", "content": paraphrase_prompt(self.settings, fact)}] for fact in asked]
        replies = [[first] for first in generator.generate(chats)]
        generator.on_answered = ignore_answers  # a fact is counted once, below
        self._ask_again(generator, asked, chats, replies)
        rows = [
            {
                "fact_id": fact["fact_id"],
                "model_id": model_id,
                "replies": [made.text for made in given],
                "finish_reasons": [made.finish_reason.value for made in given],
            }
            for fact, given in zip(asked, replies, strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=schema.PARAPHRASE_REPLIES)

    def _ask_again(
        self, generator: Generator, asked: list[dict[str, Any]], chats: Sequence[Messages], replies: list[list[Generation]]
    ) -> None:
        """Add sampled replies for facts that still lack paraphrases."""
        short = [place for place, fact in enumerate(asked) if self._lacks(fact, replies[place])]
        seeds = [reply_seed(self.seed, asked[place]["fact_id"]) for place in short]
        drawn = generator.sample([chats[place] for place in short], FURTHER_REPLIES, TEMPERATURE, seeds) if short else []
        for place, further in zip(short, drawn, strict=True):
            replies[place] += further

    def _lacks(self, fact: Mapping[str, Any], given: Sequence[Generation]) -> bool:
        return n_missing(fact, [(made.text, made.finish_reason) for made in given], self.settings.count) > 0
