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
        pa.field("subject", pa.string(), nullable=False),
        pa.field("relation", pa.string(), nullable=False),
        pa.field("object", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("answers", pa.list_(pa.string()), nullable=False),  # [0] is canonical, the rest are aliases
        pa.field("popularity", pa.string()),  # head, torso, tail
        pa.field("subject_degree", pa.int64()),
        pa.field("domain", pa.string()),  # of the relation
        pa.field("paraphrases", pa.list_(pa.string()), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)

QUARANTINED = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # of the source; the first data row is 1
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("column", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("value", pa.string(), nullable=False),  # how it begins
    ]
)

REPLACED_SHOTS = pa.schema(
    [
        pa.field("shot_set", pa.string(), nullable=False),  # in which the shot would have been
        pa.field("prompt_index", pa.int32(), nullable=False),
        pa.field("question", pa.string(), nullable=False),  # of the shot
        pa.field("answer", pa.string(), nullable=False),
        pa.field("leak", pa.string(), nullable=False),  # question, subject_and_answer
        pa.field("fact_id", pa.string(), nullable=False),  # the first fact that it leaks
        pa.field("new_question", pa.string(), nullable=False),  # of the shot that replaces it
        pa.field("new_answer", pa.string(), nullable=False),
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
        pa.field("reply_index", pa.int32(), nullable=False),
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
        pa.field("sampled_correct", pa.int32(), nullable=False),
        pa.field("sampled", pa.int32(), nullable=False),  # 0 if a greedy answer was right
    ]
)

EPOCHS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("epoch", pa.int32(), nullable=False),  # 1 is the first
        pa.field("train_loss", pa.float64()),  # mean cross entropy per trained token of the epoch, in nats
        pa.field("unknown_accuracy", pa.float64()),
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
        pa.field("eval_seconds", pa.float64()),
    ]
)

TRAINING_ROWS = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),  # unknown, highly_known, maybe_known, paraphrase
        pa.field("question", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),  # what the assistant says, without "Answer: "
    ]
)

SHIFTS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),  # "noise" for the base compared with itself, S1 with S2
        pa.field("view", pa.string(), nullable=False),  # all, at_risk, untrained, control
        pa.field("shift", pa.string(), nullable=False),  # UK->HK ... HK->UK; positive, negative
        pa.field("count", pa.float64(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),  # the denominator
        pa.field("rate", pa.float64()),
        pa.field("standard_error", pa.float64()),
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

FACT_EFFECTS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("s0_category", pa.string(), nullable=False),  # of the base on S0
        pa.field("relation", pa.string(), nullable=False),
        pa.field("object", pa.string(), nullable=False),
        pa.field("effect", pa.string(), nullable=False),  # net_change, same_prompt, crossed
        pa.field("shift", pa.string()),  # UK->HK ... HK->UK; positive, negative; null for net_change
        pa.field("adapter", pa.float64(), nullable=False),
        pa.field("base", pa.float64(), nullable=False),  # the same of the base on this fact
        pa.field("value", pa.float64(), nullable=False),  # adapter - base
    ]
)

EFFECTS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("subset", pa.string(), nullable=False),  # all, untrained, control, control_dev, control_test, ...
        pa.field("at_risk", pa.bool_(), nullable=False),  # only facts that could have moved that way, by their category on S0
        pa.field("effect", pa.string(), nullable=False),
        pa.field("shift", pa.string()),
        pa.field("value", pa.float64()),  # adapter - base, a mean over facts; null without facts
        pa.field("adapter", pa.float64()),
        pa.field("base", pa.float64()),  # on the same facts
        pa.field("n", pa.int64(), nullable=False),  # facts
        pa.field("clusters", pa.int64(), nullable=False),  # relation x object
        pa.field("standard_error", pa.float64()),  # null below two clusters
        pa.field("lower", pa.float64()),  # 95% interval
        pa.field("upper", pa.float64()),
        pa.field("resolvable", pa.float64()),  # smallest true effect found with 80% power
        pa.field("verdict", pa.string()),  # with Holm's correction over the trials; null where the effect is no harm: rises, same_prompt
        pa.field("verdict_alone", pa.string()),  # for a trial that was chosen before these facts were looked at
    ]
)

# Two data mixes on the same facts: how much more the first keeps of what the base knows.
ARMS = pa.schema(
    [
        pa.field("first", pa.string(), nullable=False),
        pa.field("second", pa.string(), nullable=False),
        pa.field("pairs", pa.int64(), nullable=False),  # trials of each, paired by setting and seed
        pa.field("facts", pa.int64(), nullable=False),  # known ones that no compared trial was trained on
        pa.field("value", pa.float64()),  # net change of the first - that of the second; null without facts
        pa.field("lower", pa.float64()),  # 95% interval
        pa.field("upper", pa.float64()),
        pa.field("resolvable", pa.float64()),  # smallest true difference found with 80% power
        pa.field("p_holm", pa.float64(), nullable=False),  # two-sided, with Holm's correction over all rows
        pa.field("first_steps", pa.float64(), nullable=False),  # of the optimiser, mean over the trials
        pa.field("second_steps", pa.float64(), nullable=False),
        pa.field("first_exposures", pa.float64(), nullable=False),  # times that an Unknown fact was trained on, mean over the trials
        pa.field("second_exposures", pa.float64(), nullable=False),
        pa.field("first_final_rate", pa.float64(), nullable=False),  # learning rate of the last step, mean over the trials
        pa.field("second_final_rate", pa.float64(), nullable=False),
        pa.field("first_reliability", pa.float64(), nullable=False),  # on S1, mean over the trials: who learned less may have lost less
        pa.field("second_reliability", pa.float64(), nullable=False),
        pa.field("unmet", pa.list_(pa.string()), nullable=False),  # conditions of a fair comparison that do not hold: equal_steps, ...
    ]
)

SCORES = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),  # "base" for the model without an adapter
        pa.field("measure", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("standard_error", pa.float64()),
    ]
)

BENCHMARKS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),  # "base" for the model without an adapter
        pa.field("task", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("standard_error", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("num_fewshot", pa.int32(), nullable=False),
        pa.field("task_version", pa.string(), nullable=False),
        pa.field("template_hash", pa.string(), nullable=False),
    ]
)

BENCHMARK_ITEMS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),  # "base" for the model without an adapter
        pa.field("task", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("item", pa.int64(), nullable=False),  # the question: lm-eval's doc_id
        pa.field("group", pa.string(), nullable=False),  # of questions that may depend on each other, such as a subject; else the item
        pa.field("score", pa.float64(), nullable=False),  # from 0 to 1
    ]
)

BENCHMARK_EFFECTS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),  # adapter - base, a mean over items
        pa.field("base", pa.float64(), nullable=False),  # on the same items
        pa.field("adapter", pa.float64(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),  # items
        pa.field("clusters", pa.int64(), nullable=False),  # groups
        pa.field("standard_error", pa.float64()),  # null below two clusters
        pa.field("lower", pa.float64()),  # 95% interval of this trial alone
        pa.field("upper", pa.float64()),
        pa.field("resolvable", pa.float64()),  # smallest true harm found with 80% power among all trials (Holm's first step)
        pa.field("p_value", pa.float64()),  # McNemar's; null unless all scores are 0 or 1
        pa.field("p_holm", pa.float64()),  # over all trials of the task and metric
        pa.field("verdict", pa.string(), nullable=False),  # with Holm's correction over the same trials
    ]
)

# What the base's categories are worth: tables of `kp audit` and of reports.

DISAGREEMENT = pa.schema(
    [
        pa.field("first", pa.string(), nullable=False),  # matcher
        pa.field("second", pa.string(), nullable=False),  # matcher
        pa.field("shot_set", pa.string()),  # null: all of them together
        pa.field("first_only", pa.int64(), nullable=False),  # answers that are right according to the first matcher only
        pa.field("second_only", pa.int64(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),  # answers
        pa.field("rate", pa.float64(), nullable=False),  # of answers on which the two disagree
        pa.field("standard_error", pa.float64()),  # clustered over facts
    ]
)

MAJORITY = pa.schema(
    [
        pa.field("relation", pa.string(), nullable=False),
        pa.field("object", pa.string(), nullable=False),  # the most common one
        pa.field("facts", pa.int64(), nullable=False),
        pa.field("object_facts", pa.int64(), nullable=False),  # facts that have it
        pa.field("dominance", pa.float64(), nullable=False),  # their share
        pa.field("right_facts", pa.int64(), nullable=False),  # facts for which it is a right answer
        pa.field("right_rate", pa.float64(), nullable=False),
        pa.field("given", pa.int64(), nullable=False),  # answers on S0 that give it
        pa.field("answers", pa.int64(), nullable=False),
        pa.field("given_rate", pa.float64(), nullable=False),
        pa.field("given_standard_error", pa.float64()),  # clustered over facts
        pa.field("highly_known", pa.int64(), nullable=False),
        pa.field("highly_known_constant", pa.int64(), nullable=False),  # of these, those for which the constant answer is right
    ]
)


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
