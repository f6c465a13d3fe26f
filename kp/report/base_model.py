"""What the base model knows before training, how stable that is, and how much it depends on matchers and on common answers."""

from itertools import combinations

import polars as pl

from kp.facts.popularity import BUCKETS
from kp.report.audit_page import majority_block
from kp.report.document import Block, Figure, Row, Section, Table, columns
from kp.report.notation import MISSING, percent
from kp.report.tables import ReportTables
from kp.vocabulary import Category, Matcher, ShotSet

RISING = (Category.UNKNOWN, Category.MAYBE_KNOWN, Category.HIGHLY_KNOWN)
ALWAYS = (ShotSet.S0, ShotSet.S1, ShotSet.S2)
RELATIONS_SHOWN = 12  # in the table of constant answers


def base_model_section(tables: ReportTables, matcher: Matcher, pictures: set[str]) -> Section:
    """Categories by shot set, sampling, popularity and relation; changes from noise alone; matcher disagreement; constant answers."""
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
    blocks += [_by_shot_set(categories), *([] if tables.slick is None else [_by_sampling(tables.slick)])]
    blocks += [_by_noise(categories), _by_group(assigned), _by_matcher(tables.base_categories)]
    blocks += [_disagreement(tables.base_categories, tables.disagreement), majority_block(tables.majority, RELATIONS_SHOWN)]
    filled = tuple(block for block in blocks if isinstance(block, Figure) or (isinstance(block, Table) and block.rows))
    return Section("base", "What the base model knows", filled)


def _counts(frame: pl.DataFrame) -> tuple[str, ...]:
    """Facts, then HighlyKnown, MaybeKnown, Unknown as `count · %`, then the share of right answers."""
    total = len(frame)
    found = {category: int((frame["category"] == category).sum()) for category in RISING}
    shares = (f"{found[category]:,} · {percent(found[category] / total)}" for category in reversed(RISING))
    return (f"{total:,}", *shares, percent(int(frame["correct"].sum()) / int(frame["asked"].sum())))


COUNTED = ("facts", "HighlyKnown (n · %)", "MaybeKnown (n · %)", "Unknown (n · %)", "answers right (%)")


def _by_shot_set(categories: pl.DataFrame) -> Table:
    uses = {ShotSet.S0: "S0 (assigns)", ShotSet.S1: "S1 (measures)"}
    names = {shot_set: uses.get(shot_set, f"{shot_set} (measures again)") for shot_set in ShotSet}
    frames = {name: categories.filter(pl.col("shot_set") == shot_set) for shot_set, name in names.items()}
    rows = tuple(Row((name, *_counts(frame))) for name, frame in frames.items() if len(frame))
    return Table("All facts by shot set.", columns("shot set", *COUNTED), rows)


def _by_sampling(slick: pl.DataFrame) -> Table:
    """One row: the facts of each SliCK class, and how many sampled answers are right."""
    total, sampled, right = len(slick), int(slick["sampled"].sum()), int(slick["sampled_correct"].sum())
    found = [int((slick["category"] == category).sum()) for category in Category]
    shares = [f"{facts:,} · {percent(facts / total)}" for facts in found]
    answers = f"{right:,}/{sampled:,} · {percent(right / sampled)}" if sampled else MISSING
    caption = (
        f"SliCK classes on S0. Facts that no greedy answer got right were asked again, with {max(slick['sampled'], default=0):,} sampled "
        "answers each: WeaklyKnown facts have a right one among them, Unknown facts have none, and only these are packed. Everywhere else "
        "in this report answers are greedy, and Unknown holds both."
    )
    head = columns("facts", *(f"{category} (n · %)" for category in Category), "sampled answers right (n · %)", words=0)
    return Table(caption, head, (Row((f"{total:,}", *shares, answers)),))


def _by_noise(categories: pl.DataFrame) -> Table:
    present = [shot_set for shot_set in ShotSet if shot_set in set(categories["shot_set"])]
    rows = []
    further = [shot_set for shot_set in present if shot_set not in ALWAYS]
    pairs = [*combinations([shot_set for shot_set in present if shot_set in ALWAYS], 2), *((ShotSet.S1, again) for again in further)]
    for first, second in pairs:
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
    for name in BUCKETS:
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


def _disagreement(categories: pl.DataFrame, disagreement: pl.DataFrame) -> Table:
    """Facts that two matchers put in different categories, and answers on which they disagree, over all shot sets."""
    rows = []
    for counted in disagreement.filter(pl.col("shot_set").is_null()).iter_rows(named=True):
        first, second = counted["first"], counted["second"]
        pair = categories.filter(pl.col("matcher") == first).join(
            categories.filter(pl.col("matcher") == second), on=["fact_id", "model_id", "shot_set"], suffix="_other"
        )
        facts, answers = int((pair["category"] != pair["category_other"]).sum()), counted["first_only"] + counted["second_only"]
        shares = (
            f"{facts:,}/{len(pair):,} · {percent(facts / len(pair))}" if len(pair) else MISSING,
            f"{answers:,}/{counted['n']:,} · {percent(counted['rate'])}",
        )
        rows.append(Row((f"{first}, {second}", *shares, f"{counted['first_only']:,}", f"{counted['second_only']:,}")))
    head = columns(
        "matchers", "categories that differ (n · %)", "answers judged differently (n · %)", "right by the first only", "by the second only"
    )
    return Table("Where the matchers disagree, over all shot sets.", head, tuple(rows))
