"""The arrow schema of the tables that `kp facts --describe` writes.

They are separate from kp/schema.py, which has the tables that steps exchange: these are only read by people.
"""

import pyarrow as pa

FACT_RELATIONS = pa.schema(
    [
        pa.field("relation", pa.string(), nullable=False),
        pa.field("domain", pa.string()),  # of the relation, or null
        pa.field("facts", pa.int64(), nullable=False),
        pa.field("head", pa.int64(), nullable=False),  # facts whose subject is in this bucket
        pa.field("torso", pa.int64(), nullable=False),  # likewise
        pa.field("tail", pa.int64(), nullable=False),  # likewise
        pa.field("no_popularity", pa.int64(), nullable=False),  # facts whose popularity is not known
        pa.field("objects", pa.int64(), nullable=False),  # different ones
        pa.field("most_common_object", pa.string(), nullable=False),  # of the relation's facts
        pa.field("most_common_facts", pa.int64(), nullable=False),  # facts that have it
        pa.field("dominance", pa.float64(), nullable=False),  # their share
        pa.field("without_paraphrases", pa.int64(), nullable=False),  # facts that have none
    ]
)

FACT_BUCKETS = pa.schema(
    [
        pa.field("popularity", pa.string()),  # head, torso, tail; null: not known
        pa.field("facts", pa.int64(), nullable=False),
        pa.field("subjects", pa.int64(), nullable=False),  # different ones
        pa.field("least_degree", pa.int64()),  # of a subject
        pa.field("median_degree", pa.float64()),  # of a subject
        pa.field("greatest_degree", pa.int64()),  # of a subject
    ]
)

FACT_HISTOGRAMS = pa.schema(
    [
        pa.field("measure", pa.string(), nullable=False),  # aliases, question_words, ...
        pa.field("least", pa.int64(), nullable=False),  # the bin's ends, both inclusive
        pa.field("greatest", pa.int64(), nullable=False),  # likewise
        pa.field("facts", pa.int64(), nullable=False),
    ]
)

FACT_MEASURES = pa.schema(
    [
        pa.field("measure", pa.string(), nullable=False),
        pa.field("least", pa.int64(), nullable=False),  # over the facts
        pa.field("median", pa.float64(), nullable=False),  # over the facts
        pa.field("mean", pa.float64(), nullable=False),  # over the facts
        pa.field("greatest", pa.int64(), nullable=False),  # over the facts
    ]
)

FACT_FAULTS = pa.schema(
    [
        pa.field("reason", pa.string(), nullable=False),  # why rows were rejected
        pa.field("rows", pa.int64(), nullable=False),  # of the source that have this fault, with or without others
        pa.field("faults", pa.int64(), nullable=False),  # rows and columns that have it
        pa.field("example_row", pa.int64(), nullable=False),  # the first
        pa.field("example", pa.string(), nullable=False),  # how its value begins
    ]
)
