"""The identity of a fact.

It is derived from what the fact says and from nothing else, so that the same fact out of two files, or out of two releases of one file,
keeps its id, and an id can be recomputed from the row that carries it.
"""

import hashlib
import json

ID_LENGTH = 16  # hex digits: 64 bits, so two among a hundred million facts agree with a chance below 0.1%


def fact_id(subject: str, relation: str, object: str) -> str:
    """First 16 hex digits of a SHA-256 over the JSON list of the three, which unlike a separator cannot stand inside a part."""
    joined = json.dumps([subject, relation, object], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(joined.encode("utf-8")).hexdigest()[:ID_LENGTH]
