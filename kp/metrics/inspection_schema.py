"""The arrow schemas of the tables that only `kp audit` and `kp noise` write.

They are separate from kp/schema.py, which has the tables that steps exchange and reports show: no step reads these.
"""

import pyarrow as pa

from kp.metrics.result_schema import SHIFTS

# What the categories are worth: the tables of `kp audit`.

CATEGORY_COUNTS = pa.schema(
    [
        pa.field("shot_set", pa.string(), nullable=False),
        pa.field("matcher", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("facts", pa.int64(), nullable=False),
    ]
)

RELATION_COUNTS = pa.schema([pa.field("relation", pa.string(), nullable=False), *CATEGORY_COUNTS])

MATCHER_TRANSITIONS = pa.schema(
    [
        pa.field("first", pa.string(), nullable=False),  # matcher
        pa.field("second", pa.string(), nullable=False),  # matcher
        pa.field("shot_set", pa.string(), nullable=False),
        pa.field("first_category", pa.string(), nullable=False),  # by the first matcher
        pa.field("second_category", pa.string(), nullable=False),  # by the second
        pa.field("facts", pa.int64(), nullable=False),
    ]
)

FALSE_POSITIVES = pa.schema(
    [
        pa.field("relation", pa.string()),  # null: all of them together
        pa.field("matcher", pa.string(), nullable=False),
        pa.field("answers", pa.int64(), nullable=False),  # of the base, compared with the answers of other facts of the relation
        pa.field("n", pa.int64(), nullable=False),  # answers x other facts they were compared with
        pa.field("false_positives", pa.int64(), nullable=False),  # of `n`, taken for right although the other fact has another object
        pa.field("rate", pa.float64()),  # false_positives / n; null without any
        pa.field("standard_error", pa.float64()),  # clustered over the facts that were asked
    ]
)

DOUBTFUL_ALIASES = pa.schema(
    [
        pa.field("relation", pa.string(), nullable=False),
        pa.field("alias", pa.string(), nullable=False),  # normalised, or as given if nothing would be left of it
        pa.field("problem", pa.string(), nullable=False),  # why it is doubtful
        pa.field("objects", pa.int64(), nullable=False),  # different objects among those facts
        pa.field("facts", pa.int64(), nullable=False),  # that have this alias
        pa.field("fact_ids", pa.list_(pa.string()), nullable=False),  # the facts that have it
    ]
)

REFUSALS = pa.schema(
    [
        pa.field("shot_set", pa.string(), nullable=False),
        pa.field("prompt_index", pa.int32()),  # null: all prompts of the set together
        pa.field("refused", pa.int64(), nullable=False),  # answers that refuse
        pa.field("n", pa.int64(), nullable=False),
        pa.field("rate", pa.float64(), nullable=False),  # refused / n
        pa.field("standard_error", pa.float64()),  # clustered over facts
    ]
)

CONSTANT_FACTS = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),  # HighlyKnown on S0, and right for a constant answer
        pa.field("relation", pa.string(), nullable=False),
        pa.field("constant", pa.string(), nullable=False),  # the answer that is most common in the relation
    ]
)

# The base against itself: the tables of `kp noise`.

NOISE_TRANSITIONS = pa.schema(
    [
        pa.field("matcher", pa.string(), nullable=False),
        pa.field("first", pa.string(), nullable=False),  # shot set
        pa.field("second", pa.string(), nullable=False),  # shot set
        pa.field("before", pa.string(), nullable=False),  # category
        pa.field("after", pa.string(), nullable=False),  # category
        pa.field("facts", pa.int64(), nullable=False),
    ]
)

NOISE_SHIFTS = pa.schema(
    [
        pa.field("matcher", pa.string(), nullable=False),
        pa.field("first", pa.string(), nullable=False),  # shot set
        pa.field("second", pa.string(), nullable=False),  # shot set
        *(SHIFTS.field(name) for name in SHIFTS.names[1:]),
    ]
)

NOISE_SPREAD = pa.schema(
    [
        pa.field("matcher", pa.string(), nullable=False),
        pa.field("view", pa.string(), nullable=False),  # all, at_risk
        pa.field("shift", pa.string(), nullable=False),
        pa.field("draws", pa.int64(), nullable=False),  # second measurements, each with another shot set
        pa.field("n", pa.int64(), nullable=False),  # the denominator, the same in every draw
        pa.field("mean_count", pa.float64(), nullable=False),  # facts that moved this way, mean over the draws
        pa.field("mean", pa.float64()),  # rates from here on
        pa.field("standard_deviation", pa.float64()),  # of a sample; null for one draw
        pa.field("minimum", pa.float64()),  # smallest rate of a draw
        pa.field("maximum", pa.float64()),  # largest rate of a draw
    ]
)
