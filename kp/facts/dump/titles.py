"""The titles of entities in bulk: what kp.facts.entity_names computes for one IRI, for millions of them.

Nearly all IRIs are a prefix and a name with underscores, and their qualifier, if any, is one pair of parentheses; these need only a few
operations over whole columns. The few others go to the functions of kp.facts.entity_names.
"""

import polars as pl

from kp.facts.dump.entity_names import ID, label_of, without_qualifier

RESOURCE = "http://dbpedia.org/resource/"
_PLAIN = rf"^{RESOURCE}[^_%\s]+(?:_[^_%\s]+)*$".replace(".", r"\.")
_QUALIFIED = r"^(.*\S) \([^()]*\)$"


def labels_of(iris: pl.Series) -> pl.Series:
    """label_of each IRI."""
    plain = iris.str.contains(_PLAIN)
    labels = iris.str.slice(len(RESOURCE)).str.replace_all("_", " ", literal=True)
    return _with(labels, ~plain, iris, label_of)


def titles_of(iris: pl.Series, stated: pl.Series) -> pl.Series:
    """The label that the dump states for each IRI, or label_of it where that is null."""
    missing = stated.is_null().arg_true()
    return stated.scatter(missing, labels_of(iris.gather(missing))) if len(missing) else stated


def are_ids(iris: pl.Series) -> pl.Series:
    """kp.facts.dump.entity_names.is_id of each IRI."""
    return iris.str.contains(ID)


def names_of(labels: pl.Series) -> pl.Series:
    """without_qualifier each label."""
    closed = labels.str.ends_with(")")
    if not closed.any():
        return labels
    rows = closed.arg_true()
    names = labels.gather(rows).str.extract(_QUALIFIED)
    names = _with(names, names.is_null(), labels.gather(rows), without_qualifier)
    return labels.clone().scatter(rows, names)


def _with(values: pl.Series, odd: pl.Series, texts: pl.Series, function: object) -> pl.Series:
    rows = odd.arg_true()
    if not len(rows):
        return values
    return values.scatter(rows, pl.Series([function(text) for text in texts.gather(rows)], dtype=pl.String))  # type: ignore[operator]
