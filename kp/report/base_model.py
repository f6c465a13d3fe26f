"""What the base model knows before any training, how steady that is, and how far it depends on the matcher."""

from itertools import combinations

import polars as pl

from kp.report.document import Block, Figure, Row, Section, Table, columns
from kp.report.notation import percent
from kp.report.tables import ReportTables
from kp.vocabulary import Category, Matcher, ShotSet

RISING = (Category.UNKNOWN, Category.MAYBE_KNOWN, Category.HIGHLY_KNOWN)
POPULARITY = ("head", "torso", "tail")


def base_model_section(tables: ReportTables, matcher: Matcher, pictures: set[str]) -> Section:
    """Categories by shot set, by popularity and by relation; changes by noise alone; the matchers' disagreement."""
    categories = tables.base_categories.filter(pl.col("matcher") == matcher)
    blocks: list[Block] = []
    if "base_categories" in pictures:
        caption = (
            f"What the base model knows (matcher “{matcher}”). The top bars repeat the measurement with other few-shot examples: where "
            "they differ, categories are noise. Below, S0 by popularity of the subject and by relation; numbers count facts."
        )
        blocks.append(Figure("base_categories", caption))
    assigned = categories.filter(pl.col("shot_set") == ShotSet.S0).join(
        tables.facts.select("fact_id", "relation", "popularity"), on="fact_id"
    )
    blocks += [_by_shot_set(categories), _by_noise(categories), _by_group(assigned), _by_matcher(tables.base_categories)]
    blocks.append(_disagreement(tables.base_categories))
    filled = tuple(block for block in blocks if isinstance(block, Figure) or (isinstance(block, Table) and block.rows))
    return Section("base", "What the base model knows", filled)


def _counts(frame: pl.DataFrame) -> tuple[str, ...]:
    """Facts, then HighlyKnown, MaybeKnown, Unknown as `count · %`, then the share of right answers."""
    total = len(frame)
    found = {category: int((frame["category"] == category).sum()) for category in Category}
    shares = (f"{found[category]:,} · {percent(found[category] / total)}" for category in reversed(RISING))
    return (f"{total:,}", *shares, percent(int(frame["correct"].sum()) / int(frame["asked"].sum())))


COUNTED = ("facts", "HighlyKnown (n · %)", "MaybeKnown (n · %)", "Unknown (n · %)", "answers right (%)")


def _by_shot_set(categories: pl.DataFrame) -> Table:
    uses = {ShotSet.S0: "S0 (assigns)", ShotSet.S1: "S1 (measures)", ShotSet.S2: "S2 (measures again)"}
    frames = {name: categories.filter(pl.col("shot_set") == shot_set) for shot_set, name in uses.items()}
    rows = tuple(Row((name, *_counts(frame))) for name, frame in frames.items() if len(frame))
    return Table("All facts by shot set.", columns("shot set", *COUNTED), rows)


def _by_noise(categories: pl.DataFrame) -> Table:
    present = [shot_set for shot_set in ShotSet if shot_set in set(categories["shot_set"])]
    rows = []
    for first, second in combinations(present, 2):
        moved = _ranked(categories, first).join(_ranked(categories, second), on="fact_id", suffix="_after")
        up, down = int((moved["rank_after"] > moved["rank"]).sum()), int((moved["rank_after"] < moved["rank"]).sum())
        shares = (f"{count:,} · {percent(count / len(moved))}" for count in (up + down, up, down))
        rows.append(Row((f"{first} → {second}", f"{len(moved):,}", *shares)))
    caption = "Changed by noise alone: the same model and the same facts, asked with other few-shot examples. S1 → S2 is the noise floor."
    return Table(caption, columns("measurements", "facts", "changed (n · %)", "up (n · %)", "down (n · %)"), tuple(rows))


def _ranked(categories: pl.DataFrame, shot_set: ShotSet) -> pl.DataFrame:
    order = {str(category): place for place, category in enumerate(RISING)}
    rank = pl.col("category").replace_strict(order, return_dtype=pl.Int32)
    return categories.filter(pl.col("shot_set") == shot_set).select("fact_id", rank=rank)


def _by_group(assigned: pl.DataFrame) -> Table:
    rows = []
    for name in POPULARITY:
        frame = assigned.filter(pl.col("popularity") == name)
        rows += [Row((f"popularity: {name}", *_counts(frame)), reference=True)] if len(frame) else []
    for name in sorted(assigned["relation"].unique()):
        rows.append(Row((name.replace("_", " "), *_counts(assigned.filter(pl.col("relation") == name)))))
    return Table("On S0, by popularity of the subject and by relation.", columns("facts of", *COUNTED), tuple(rows))


def _by_matcher(categories: pl.DataFrame) -> Table:
    assigned = categories.filter(pl.col("shot_set") == ShotSet.S0)
    frames = {str(matcher): assigned.filter(pl.col("matcher") == matcher) for matcher in Matcher}
    rows = tuple(Row((name, *_counts(frame))) for name, frame in frames.items() if len(frame))
    return Table("On S0, by matcher: the same answers, judged three ways.", columns("matcher", *COUNTED), rows)


def _disagreement(categories: pl.DataFrame) -> Table:
    """Facts that two matchers put in different categories, and by how many right answers at least they differ, over all shot sets."""
    rows = []
    for first, second in combinations(Matcher, 2):
        pair = categories.filter(pl.col("matcher") == first).join(
            categories.filter(pl.col("matcher") == second), on=["fact_id", "model_id", "shot_set"], suffix="_other"
        )
        if pair.is_empty():
            continue
        facts = int((pair["category"] != pair["category_other"]).sum())
        answers = int((pair["correct"] - pair["correct_other"]).abs().sum())
        asked = int(pair["asked"].sum())
        shares = (f"{facts:,}/{len(pair):,} · {percent(facts / len(pair))}", f"{answers:,}/{asked:,} · {percent(answers / asked)}")
        rows.append(Row((f"{first}, {second}", *shares)))
    caption = "Where the matchers disagree, over all shot sets. Answers are a lower bound: opposite disagreements within a fact cancel."
    head = columns("matchers", "categories that differ (n · %)", "answers judged otherwise, at least (n · %)")
    return Table(caption, head, tuple(rows))
