"""The identity of a fact.

It is derived only from the content of the fact, so that the same fact from two files, or from two releases of one file, has the same id,
and an id can be recomputed from its row.
"""

import hashlib
import json

ID_LENGTH = 16  # hex digits: 64 bits, so the probability of a collision among a hundred million facts is below 0.1%


def fact_id(subject: str, relation: str, object: str) -> str:
    """First 16 hex digits of a SHA-256 over the JSON list of the three, which is unambiguous, unlike a separator."""
    joined = json.dumps([subject, relation, object], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(joined.encode("utf-8")).hexdigest()[:ID_LENGTH]
