"""Held-out paraphrases as questions: does an adapter answer a wording that its trial did not train on, or only the wordings that it saw?

Each held-out paraphrase of a trained fact is asked as if it were a separate fact, so that it passes through the same pipeline as every
question. Its id only has to be unique and is never parsed; which fact and which paraphrase it stands for is stored in columns.
"""

from collections.abc import Collection, Sequence

import polars as pl
import pyarrow as pa

from kp.schema import FACTS, HELD_OUT_ANSWERS

QUESTIONS = pa.schema(
    [
        *FACTS,  # fact_id is the question's own, and question is the paraphrase
        pa.field("paraphrased_fact", pa.string(), nullable=False),
        pa.field("paraphrase_index", pa.int32(), nullable=False),  # in the fact's list of paraphrases
    ]
)

_ORDER = ["shot_set", "prompt_index", "fact_id", "paraphrase_index"]


def held_out_questions(facts: pl.DataFrame, trained: Collection[str], count: int, trained_on: int = 0) -> pl.DataFrame:
    """At most `count` held-out paraphrases of each fact (FACTS) in `trained`, one row each (QUESTIONS), in the order of the facts.

    `trained_on` is the number of paraphrases that the trial's arm trains on.
    """
    rows = [
        {
            **fact,
            "fact_id": f"{fact['fact_id']}/{index}",
            "question": text,
            "paraphrased_fact": fact["fact_id"],
            "paraphrase_index": index,
        }
        for fact in facts.filter(pl.col("fact_id").is_in(list(trained))).iter_rows(named=True)
        for index, text in held_out_paraphrases(fact["paraphrases"], count, trained_on)
    ]
    return pl.DataFrame(pl.from_arrow(pa.Table.from_pylist(rows, schema=QUESTIONS)))


def held_out_paraphrases(paraphrases: Sequence[str], count: int, trained_on: int = 0) -> list[tuple[int, str]]:
    """The last `count` of a fact's paraphrases without the first `trained_on`, or as many as are left, each with its index in the list."""
    return list(enumerate(paraphrases))[trained_on:][-count:] if count else []


def answers_by_fact(answers: pl.DataFrame, questions: pl.DataFrame) -> pl.DataFrame:
    """ANSWERS to `questions` (QUESTIONS) as HELD_OUT_ANSWERS, each with the id of the fact that was paraphrased, in a fixed order."""
    asked = questions.select("fact_id", "paraphrased_fact", "paraphrase_index")
    joined = answers.join(asked, on="fact_id", how="left", validate="m:1")
    return joined.with_columns(pl.col("paraphrased_fact").alias("fact_id")).select(HELD_OUT_ANSWERS.names).sort(_ORDER)
