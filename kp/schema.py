"""The arrow schema of every table that kp writes, and the only functions that read and write tables.

Schemas are in one place so that a reader can reject a file with another schema before computing anything from it. Tables of measurements
are in long form: one measured number per row.
"""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from kp.errors import UserError

FACTS = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),  # hash of subject, relation, object
        pa.field("subject", pa.string(), nullable=False),  # what the fact is about
        pa.field("relation", pa.string(), nullable=False),
        pa.field("object", pa.string(), nullable=False),  # its answer
        pa.field("question", pa.string(), nullable=False),  # as it is put to the model
        pa.field("answers", pa.list_(pa.string()), nullable=False),  # [0] is canonical, the rest are aliases
        pa.field("popularity", pa.string()),  # head, torso, tail
        pa.field("subject_degree", pa.int64()),  # triples with the subject, where the source knows
        pa.field("domain", pa.string()),  # of the relation
        pa.field("paraphrases", pa.list_(pa.string()), nullable=False),  # other wordings of the question
        pa.field("source", pa.string(), nullable=False),  # where the fact comes from
        pa.field("reversed_question", pa.string()),  # asks for the subject, given the object; null where there is no such wording
    ]
)

PUBLISHED_CATEGORIES = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),  # found by the authors of the source, with their model, prompts and matcher
    ]
)

QUARANTINED = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # of the source; the first data row is 1
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("column", pa.string(), nullable=False),  # at fault
        pa.field("reason", pa.string(), nullable=False),  # why the row is rejected
        pa.field("value", pa.string(), nullable=False),  # how it begins
    ]
)

REPLACED_SHOTS = pa.schema(
    [
        pa.field("shot_set", pa.string(), nullable=False),  # in which the shot would have been
        pa.field("prompt_index", pa.int32(), nullable=False),  # of the prompt in its shot set
        pa.field("question", pa.string(), nullable=False),  # of the shot
        pa.field("answer", pa.string(), nullable=False),  # of that shot
        pa.field("leak", pa.string(), nullable=False),  # question, subject_and_answer
        pa.field("fact_id", pa.string(), nullable=False),  # the first fact that it leaks
        pa.field("new_question", pa.string(), nullable=False),  # of the shot that replaces it
        pa.field("new_answer", pa.string(), nullable=False),  # of that shot
    ]
)

# Paraphrases from an instruct model.

PARAPHRASE_REPLIES = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("model_id", pa.string(), nullable=False),  # revision of the model that was asked
        pa.field("replies", pa.list_(pa.string()), nullable=False),  # raw texts: [0] is greedy, the rest are sampled if that was not enough
        pa.field("finish_reasons", pa.list_(pa.string()), nullable=False),  # of each reply: stop, length
    ]
)

PARAPHRASES = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("paraphrase_index", pa.int32(), nullable=False),  # of the line among all lines of the fact's replies
        pa.field("reply_index", pa.int32(), nullable=False),  # of the reply that has it, among the fact's replies
        pa.field("text", pa.string(), nullable=False),  # of one line of the reply, without its number, bullet and quotes
        pa.field("verdict", pa.string(), nullable=False),  # kept, or why not: copy, duplicate, subject_lost, ...
    ]
)

ANSWERS = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("model_id", pa.string(), nullable=False),  # base revision or adapter digest
        pa.field("shot_set", pa.string(), nullable=False),  # S0, S1, S2, ...
        pa.field("prompt_index", pa.int32(), nullable=False),  # 0..9
        pa.field("answer", pa.string(), nullable=False),  # raw text of the model
        pa.field("finish_reason", pa.string(), nullable=False),  # stop, newline, length
        pa.field("match_strict", pa.bool_(), nullable=False),
        pa.field("match_exact", pa.bool_(), nullable=False),
        pa.field("match_released", pa.bool_(), nullable=False),
        pa.field("refused", pa.bool_(), nullable=False),
    ]
)

# Answers to paraphrases of trained facts that no trial trained on.
HELD_OUT_ANSWERS = pa.schema([*ANSWERS, pa.field("paraphrase_index", pa.int32(), nullable=False)])  # in the fact's list of paraphrases

CATEGORIES = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("shot_set", pa.string(), nullable=False),
        pa.field("matcher", pa.string(), nullable=False),
        pa.field("correct", pa.int32(), nullable=False),
        pa.field("asked", pa.int32(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
    ]
)

# Sampled answers of the base, for facts that no greedy answer got right.

SAMPLES = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("model_id", pa.string(), nullable=False),  # base revision
        pa.field("shot_set", pa.string(), nullable=False),
        pa.field("prompt_index", pa.int32(), nullable=False),  # 0..9
        pa.field("sample_index", pa.int32(), nullable=False),  # 0 is the first one sampled for its prompt
        pa.field("answer", pa.string(), nullable=False),  # raw text of the model
        pa.field("match_strict", pa.bool_(), nullable=False),
        pa.field("match_exact", pa.bool_(), nullable=False),
        pa.field("match_released", pa.bool_(), nullable=False),
    ]
)

SLICK = pa.schema(
    [
        *CATEGORIES,  # correct and asked are of greedy answers; category may be WeaklyKnown
        pa.field("sampled_correct", pa.int32(), nullable=False),  # of `sampled`
        pa.field("sampled", pa.int32(), nullable=False),  # 0 if a greedy answer was right
    ]
)

EPOCHS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("epoch", pa.int32(), nullable=False),  # 1 is the first
        pa.field("train_loss", pa.float64()),  # mean cross entropy per trained token of the epoch, in nats
        pa.field("unknown_accuracy", pa.float64()),  # share of trained Unknown facts answered right, on the evaluation prompts
        pa.field("eval_mode", pa.string()),  # how it was measured: generate, teacher_forced
        pa.field("unknown_bits", pa.float64()),  # mean surprisal of the evaluated answers, end included; null if answers are generated
        pa.field("resisting", pa.string()),  # the tokens of answers that most often are not the greedy choice, quoted; null likewise
        pa.field("replay_kl", pa.float64()),  # KL(base || adapter) per trained token of replay rows; null if the coefficient is 0
        pa.field("learning_rate", pa.float64()),  # of the epoch's first step
        pa.field("final_learning_rate", pa.float64()),  # of its last step
        pa.field("steps", pa.int64()),  # optimiser steps in this epoch
        pa.field("rows", pa.int64()),  # trained on in this epoch
        pa.field("exposures", pa.float64()),  # of these, rows of Unknown facts and their paraphrases, per Unknown fact
        pa.field("tokens", pa.int64()),  # of these rows, without padding; shared tokens count for each row
        pa.field("seconds", pa.float64()),  # of the optimiser steps
        pa.field("eval_seconds", pa.float64()),  # of measuring unknown_accuracy
    ]
)

# Which of the evaluated Unknown facts a trial had learned after each epoch; trials trained before this was kept lack it.
FACT_EPOCHS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("epoch", pa.int32(), nullable=False),  # 1 is the first
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("correct", pa.int32(), nullable=False),  # of `asked`, by the study's matcher
        pa.field("asked", pa.int32(), nullable=False),  # prompts of S0
    ]
)

TRAINING_ROWS = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),  # its number, in the order in which rows are drawn
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),  # unknown, highly_known, maybe_known, paraphrase
        pa.field("question", pa.string(), nullable=False),  # as it is asked in training: the fact's own, or a paraphrase
        pa.field("target", pa.string(), nullable=False),  # what the assistant says, without "Answer: "
    ]
)

PARTS = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),  # pool, control_dev, control_test
    ]
)

OUTCOMES = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("trial_id", pa.string(), nullable=False),  # "base" for the model without an adapter
        pa.field("shot_set", pa.string(), nullable=False),  # the base on S0, S1, S2; adapters on S1, and S2 unless the study leaves it out
        pa.field("role", pa.string(), nullable=False),  # trained, replayed, untouched, or the fact's part if that is a control one
        pa.field("correct", pa.int32(), nullable=False),  # of `asked`, by the study's matcher
        pa.field("asked", pa.int32(), nullable=False),
        pa.field("category", pa.string(), nullable=False),  # HighlyKnown, MaybeKnown, Unknown
        pa.field("refused", pa.int32(), nullable=False),  # of `asked`
    ]
)

# The answers that a task scores: their log-likelihoods, of which its metrics are made.
BENCHMARK_CHOICES = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),  # "base" for the model without an adapter
        pa.field("task", pa.string(), nullable=False),
        pa.field("item", pa.int64(), nullable=False),  # as in BENCHMARK_ITEMS
        pa.field("choice", pa.int32(), nullable=False),  # 0 is the first
        pa.field("log_likelihood", pa.float64(), nullable=False),  # nats
        pa.field("is_greedy", pa.bool_(), nullable=False),  # whether every token is the model's greedy choice
    ]
)

# How surprised a model is of the canonical answer of each fact, in bits; see kp.generation.surprisal.
SURPRISAL = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("bits", pa.float64(), nullable=False),  # of the answer's tokens
        pa.field("end_bits", pa.float64(), nullable=False),  # of the token that ends it
        pa.field("tokens", pa.int32(), nullable=False),  # of the answer, without the end
        pa.field("is_greedy", pa.bool_(), nullable=False),  # whether each of these tokens is the model's greedy choice
    ]
)

# The same of the models of a study: "base" and its trials.
TRIAL_SURPRISAL = pa.schema(
    [pa.field("trial_id", pa.string(), nullable=False), *(field for field in SURPRISAL if field.name != "model_id")]
)

# OUTCOMES of adapters at scales below 1.
SCALED_OUTCOMES = pa.schema([*OUTCOMES, pa.field("scale", pa.float64(), nullable=False)])

BENCHMARKS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),  # "base" for the model without an adapter
        pa.field("task", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),  # the mean score
        pa.field("standard_error", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("num_fewshot", pa.int32(), nullable=False),  # worked examples in each prompt
        pa.field("task_version", pa.string(), nullable=False),  # of lm-eval, or of kp's own task
        pa.field("template_hash", pa.string(), nullable=False),  # of the prompt's template
        pa.field("chance", pa.float64()),  # the score of guessing, a mean over the questions; null if answers are generated
    ]
)

BENCHMARK_ITEMS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),  # "base" for the model without an adapter
        pa.field("task", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field(
            "item", pa.int64(), nullable=False
        ),  # the question: lm-eval's doc_id; in a group, with a million added for each task before its own
        pa.field("group", pa.string(), nullable=False),  # of questions that may depend on each other, such as a subject; else the item
        pa.field("score", pa.float64(), nullable=False),  # from 0 to 1
    ]
)

# How far an adapter moves what the model expects of each token of a text; kl and both nll are sums over the tokens, in nats.
TEXT_DRIFT = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # the name of a passage, or the fact_id of a question
        pa.field("register", pa.string(), nullable=False),  # of the passage, or `questions`
        pa.field("tokens", pa.int64(), nullable=False),  # predicted ones: all but the first
        pa.field("kl", pa.float64(), nullable=False),  # KL(base || adapter) over the whole vocabulary
        pa.field("nll", pa.float64(), nullable=False),  # surprisal under the adapter
        pa.field("base_nll", pa.float64(), nullable=False),  # surprisal under the base
    ]
)

# The same of adapters at every scale.
DRIFT = pa.schema([*TEXT_DRIFT, pa.field("scale", pa.float64(), nullable=False)])

COLUMNS = {
    "trial_id": 'the trial; "base" for the model without an adapter',
    "fact_id": "the fact, as in `facts`",
    "relation": "of the fact",
    "question": "of the fact, as it is asked",
    "answer": "the canonical answer",
    "base": "of the base, over the same facts and prompts",
    "adapter": "of the adapter",
    "model_id": "base revision or adapter digest",
    "shot_set": "S0, S1, S2, ...",
    "matcher": "which answers count as right: strict, exact, released",
    "match_strict": "whether the answer is right by the matcher `strict`",
    "match_exact": "whether it is by the matcher `exact`",
    "match_released": "whether it is by the matcher `released`",
    "refused": "whether the answer is a refusal",
    "correct": "right answers, of `asked`",
    "asked": "prompts under which the fact was asked",
    "category": "HighlyKnown, MaybeKnown, Unknown",
    "facts": "how many facts",
    "shift": "UK->HK ... HK->UK; positive, negative",
    "scale": "of the adapter's change of the weights; 1 is the adapter as trained",
    "task": "the benchmark",
    "metric": "of the benchmark",
    "measure": "what is measured",
    "n": "what the mean is over",
    "count": "facts that moved this way",
    "rate": "count / n",
    "standard_error": "of the value or rate; null where it cannot be given",
    "lower": "95% interval",
    "upper": "95% interval",
    "recall_upper": "95% interval",
    "arm": "the data mix in words",
    "seed": "of what the trial draws",
    "lora_scale": "what the product of the adapter's matrices is multiplied by: alpha / rank, or alpha / sqrt(rank)",
    "rows": "trained on in an epoch",
    "max_epochs": "epochs after which the trial ends at the latest",
    "max_steps": "optimiser steps after which it ends at the latest",
}
"""What a column means that many tables have, where no comment at the column itself says more; the docs' page of each table shows both."""


def write_table(table: pa.Table, schema: pa.Schema, path: Path) -> None:
    """Write `table` as parquet after casting it to `schema`; raises pa.ArrowInvalid if a value does not fit."""
    pq.write_table(table.select(schema.names).cast(schema), path, compression="zstd")


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Read a parquet file; raises UserError naming the first column of `schema` that is missing or has another type."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: not a readable parquet file: {error}") from error
    for field in schema:
        if field.name not in table.column_names:
            raise UserError(f"{path}: column '{field.name}' is missing")
        found = table.schema.field(field.name).type
        if found != field.type:
            raise UserError(f"{path}: column '{field.name}' is {found}, expected {field.type}")
    return table.select(schema.names)


def frame(table: pa.Table) -> pl.DataFrame:
    """An arrow table as a polars frame."""
    return pl.DataFrame(pl.from_arrow(table))
