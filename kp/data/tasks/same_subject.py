"""Leave-one-out shots for lm-eval: the other questions of the subject, never the one that is asked.

It stands apart from the questions because its base class lives in lm-eval, which takes seconds to import.
"""

from collections.abc import Sequence
from typing import Any

from lm_eval.api.samplers import ContextSampler


class SameSubjectSampler(ContextSampler):
    """The first n other questions of the asked question's subject, in file order."""

    def sample(self, n: int, eval_doc: dict[str, Any] | None = None, df: Any = None, **_: object) -> Sequence[dict[str, Any]]:
        """Shots for `eval_doc`; raises ValueError where its subject has fewer than `n` others."""
        if eval_doc is None:
            raise ValueError("leave-one-out shots need the question that is asked")
        others = [doc for doc in self.df if doc["subject"] == eval_doc["subject"] and doc["row"] != eval_doc["row"]]
        if len(others) < n:
            raise ValueError(f"{n} shots asked of {eval_doc['subject']}, which has {len(others)} other questions")
        return others[:n]
