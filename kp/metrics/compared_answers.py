"""An adapter's answers beside the base's to the same prompts: what every comparison of raw answers starts from.

Only here are raw answers paired, so that no metric compares different facts, prompts or shot sets by mistake.
"""

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from kp.errors import UserError
from kp.metrics.answer_texts import answer_texts
from kp.vocabulary import BASE, Matcher, Role, ShotSet


@dataclass(frozen=True)
class ComparedAnswers:
    """The raw answers of one adapter and of the base, and what each fact is to the trial."""

    trial_id: str
    facts: pl.DataFrame  # FACTS
    outcomes: pl.DataFrame  # OUTCOMES of the base on S0 and S1, and of the adapter on S1
    base: pl.DataFrame  # ANSWERS of the base on S1, and on further shot sets as its re-measurement
    adapter: pl.DataFrame  # ANSWERS of the adapter on S1
    rows: pl.DataFrame  # TRAINING_ROWS
    matcher: Matcher

    @cached_property
    def moves(self) -> pl.DataFrame:
        """A row per fact: fact_id, subject, relation, object, domain, role (to the trial), s0, before, after."""
        on = {
            (model, shot_set): self.outcomes.filter(trial_id=model, shot_set=shot_set.value)
            for model, shot_set in ((BASE, ShotSet.S0), (BASE, ShotSet.S1), (self.trial_id, ShotSet.S1))
        }
        named = self.facts.select("fact_id", "subject", "relation", "object", "domain")
        after = on[self.trial_id, ShotSet.S1].select("fact_id", "role", pl.col("category").alias("after"))
        for name, table in (("s0", on[BASE, ShotSet.S0]), ("before", on[BASE, ShotSet.S1])):
            after = after.join(table.select("fact_id", pl.col("category").alias(name)), on="fact_id", how="left")
        joined = after.join(named, on="fact_id", how="left").sort("fact_id")
        odd = joined.filter(pl.any_horizontal(pl.col("s0", "before", "relation").is_null()))
        for fact_id in odd["fact_id"].head(1):
            raise UserError(f"outcomes: fact '{fact_id}' of trial '{self.trial_id}' has no row of the base, or is none of the facts")
        return joined

    @cached_property
    def paired(self) -> pl.DataFrame:
        """A row per answer of the adapter on S1: fact_id, prompt_index, text, raw, right, refused; `base_` has the base's to the same."""
        mine, theirs = (_spoken(table.filter(shot_set=ShotSet.S1.value), self.matcher) for table in (self.adapter, self.base))
        theirs = theirs.rename({name: f"base_{name}" for name in ("text", "raw", "right", "refused")})
        paired = mine.join(theirs, on=["fact_id", "prompt_index"], how="left").sort("fact_id", "prompt_index")
        for fact_id, prompt in paired.filter(pl.col("base_raw").is_null()).select("fact_id", "prompt_index").head(1).rows():
            raise UserError(f"answers: the base was not asked prompt {prompt} of {ShotSet.S1} of fact '{fact_id}'")
        return paired

    @cached_property
    def taught(self) -> pl.DataFrame:
        """The rows of Unknown facts that the trial trained on: fact_id, target."""
        return self.rows.filter(role=Role.UNKNOWN.value).select("fact_id", "target")

    @cached_property
    def taught_domains(self) -> frozenset[str]:
        """The domains of the relations of the Unknown facts that the trial trained on."""
        domains = self.facts.join(self.taught, on="fact_id", how="semi")["domain"]
        return frozenset(domains.drop_nulls())


def _spoken(on_s1: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    right = pl.col(f"match_{matcher}").alias("right")
    return on_s1.select("fact_id", "prompt_index", answer_texts(on_s1).alias("text"), pl.col("answer").alias("raw"), right, "refused")
