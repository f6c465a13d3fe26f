"""The arrow schema of the tables between a knowledge-graph dump and the facts drawn from it."""

import pyarrow as pa

GRAPH_PAIRS = pa.schema(
    [
        pa.field("subject", pa.string(), nullable=False),  # IRI
        pa.field("relation", pa.string(), nullable=False),  # local name
        pa.field("object", pa.string(), nullable=False),  # IRI; the only value that the pair has
        pa.field("subject_degree", pa.int64(), nullable=False),  # distinct triples with the entity as subject or object
        pa.field("object_degree", pa.int64(), nullable=False),
        pa.field("popularity", pa.string(), nullable=False),  # of the subject: head, torso, tail
        pa.field("subject_label", pa.string()),  # null if the dump states none in the language
        pa.field("object_label", pa.string()),
    ]
)

GRAPH_ALIASES = pa.schema(  # of the entities of a triple: what the dump calls them beside their labels
    [
        pa.field("entity", pa.string(), nullable=False),  # IRI
        pa.field("alias", pa.string(), nullable=False),
    ]
)

GRAPH_RELATIONS = pa.schema(  # the relations of at least one triple
    [
        pa.field("relation", pa.string(), nullable=False),  # local name, or the IRI if two relations share the name
        pa.field("iri", pa.string(), nullable=False),
        pa.field("label", pa.string()),  # of the relation itself; null if the dump states none in the language
        pa.field("triples", pa.int64(), nullable=False),  # distinct, between two entities
        pa.field("subjects", pa.int64(), nullable=False),  # that have such a triple
        pa.field("pairs", pa.int64(), nullable=False),  # of these, with only one value
    ]
)

SET_ASIDE = pa.schema(
    [
        pa.field("reason", pa.string(), nullable=False),
        pa.field("lines", pa.int64(), nullable=False),
        pa.field(
            "examples",
            pa.list_(
                pa.struct([("file", pa.string()), ("line", pa.int64()), ("begins", pa.string())])
            ),  # a file's first line is 1; of Turtle: its first statement
            nullable=False,
        ),
    ]
)

GRAPH_REPORT = pa.schema(
    [
        pa.field("relation", pa.string(), nullable=False),
        pa.field("label", pa.string()),  # null if the dump states none
        pa.field("triples", pa.int64(), nullable=False),  # distinct, between two entities
        pa.field("pairs", pa.int64(), nullable=False),  # single-valued
        pa.field("candidates", pa.int64(), nullable=False),  # pairs that pass the cleaning rules; 0 without a template
        pa.field("head", pa.int64(), nullable=False),  # facts
        pa.field("torso", pa.int64(), nullable=False),  # likewise
        pa.field("tail", pa.int64(), nullable=False),  # likewise
        pa.field("has_template", pa.bool_(), nullable=False),  # whether kp has a question for the relation
    ]
)

DROPPED_CANDIDATES = pa.schema(
    [
        pa.field("relation", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),  # the cleaning rule that they break
        pa.field("candidates", pa.int64(), nullable=False),  # that this rule drops; each is dropped by the first rule that it breaks
        pa.field("example", pa.string(), nullable=False),  # the question of one of them, and its answer
    ]
)
