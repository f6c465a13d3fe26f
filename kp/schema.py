"""The arrow schema of every table kp writes, and the only functions that read and write one.

Schemas live in one place so that a reader can reject a file of another shape before any number is made of it. All tables are in long
form where they hold measurements: one measured number a row.
"""

from pathlib import Path

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

ANSWERS = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("model_id", pa.string(), nullable=False),  # base revision or adapter digest
        pa.field("shot_set", pa.string(), nullable=False),  # S0, S1, S2
        pa.field("prompt_index", pa.int32(), nullable=False),  # 0..9
        pa.field("answer", pa.string(), nullable=False),  # raw text of the model
        pa.field("finish_reason", pa.string(), nullable=False),  # stop, newline, length
        pa.field("match_strict", pa.bool_(), nullable=False),
        pa.field("match_exact", pa.bool_(), nullable=False),
        pa.field("match_released", pa.bool_(), nullable=False),
        pa.field("refused", pa.bool_(), nullable=False),
    ]
)

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

TRIALS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("unknown", pa.int32(), nullable=False),  # N, the Unknown facts trained on
        pa.field("highly_known", pa.int32(), nullable=False),  # HighlyKnown facts per Unknown fact
        pa.field("paraphrases", pa.int32(), nullable=False),  # paraphrases per Unknown fact
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("lora_alpha", pa.float64(), nullable=False),
        pa.field("use_rslora", pa.bool_(), nullable=False),
        pa.field("lora_dropout", pa.float64(), nullable=False),
        pa.field("target_modules", pa.list_(pa.string()), nullable=False),
        pa.field("learning_rate", pa.float64(), nullable=False),
        pa.field("weight_decay", pa.float64(), nullable=False),
        pa.field("batch_size", pa.int32(), nullable=False),
        pa.field("max_epochs", pa.int32(), nullable=False),
        pa.field("loss", pa.string(), nullable=False),  # which tokens are trained on: answer, full_text
        pa.field("replay_target", pa.string(), nullable=False),  # self, gold, first_alias
        pa.field("seed", pa.int32(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # completed, stopped, diverged, failed, oom
        pa.field("epochs", pa.int32(), nullable=False),  # epochs really run
        pa.field("unknown_accuracy", pa.float64()),  # after the last epoch
        pa.field("train_loss", pa.float64()),  # mean over the last epoch
        pa.field("rows", pa.int32(), nullable=False),  # training rows an epoch
        pa.field("tokens_per_second", pa.float64()),
        pa.field("wall_seconds", pa.float64()),  # not part of any comparison of runs
        pa.field("adapter_digest", pa.string()),
        pa.field("trainable_parameters", pa.int64()),
        pa.field("cause", pa.string()),  # why it failed, diverged or was stopped
    ]
)

EPOCHS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("epoch", pa.int32(), nullable=False),  # 1 is the first
        pa.field("train_loss", pa.float64()),
        pa.field("unknown_accuracy", pa.float64()),
        pa.field("learning_rate", pa.float64()),
        pa.field("tokens", pa.int64()),  # trained on in this epoch, padding not counted
        pa.field("seconds", pa.float64()),
    ]
)

TRAINING_ROWS = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),  # unknown, highly_known, paraphrase
        pa.field("question", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),  # what the assistant says, without "Answer: "
    ]
)

SHIFTS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),  # "noise" for the base against itself, S1 against S2
        pa.field("view", pa.string(), nullable=False),  # all, at_risk, untrained, excess
        pa.field("shift", pa.string(), nullable=False),  # UK->HK ... HK->UK; positive, negative
        pa.field("count", pa.float64(), nullable=False),  # whole numbers but in the view "excess"
        pa.field("n", pa.int64(), nullable=False),  # the denominator
        pa.field("rate", pa.float64()),
        pa.field("standard_error", pa.float64()),
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


def write_table(table: pa.Table, schema: pa.Schema, path: Path) -> None:
    """Write `table` as parquet after casting it to `schema`; raises pa.ArrowInvalid where a value does not fit."""
    pq.write_table(table.select(schema.names).cast(schema), path, compression="zstd")


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Read a parquet file; raises UserError naming the first column that `schema` wants and the file lacks or types otherwise."""
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
