"""What a user asks of `kp pack`, and its tables, read and checked before a model is touched."""

import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from kp.errors import UserError
from kp.facts.dump.files import is_dump
from kp.facts.tables import read_source
from kp.facts.validation import check_facts, question_key
from kp.schema import frame

FACTS_FIELD, KEEP_FIELD = "FACTS", "--keep"  # the arguments, in messages
MOST_REJECTED = 0.05  # share of a table's rows, as in every study
RESERVED = {
    "facts.source": "FACTS",
    "facts.count": "FACTS",
    "facts.control_share": "--controls",
    "facts.control_unknown_share": "--controls",
    "search.unknown": "FACTS",
    "search.replay_source": "FACTS",
    "search.replay_count": "FACTS",
    "search.sampler": "--trials",
    "search.trials": "--trials",
    "report.margin": "--margin",
    "model.name": "--model",
}
"""Values of a study that an argument decides."""


@dataclass(frozen=True)
class PackRequest:
    """The arguments of `kp pack`."""

    facts: Path
    model: str
    results: Path
    out: Path | None = None  # absent: a folder named as the study
    keep: Path | None = None
    trials: int = 3
    hours: float | None = None
    margin: float = 0.02
    controls: int = 24
    paraphrases: int = 0
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The study's name: that of the overrides, or one made of the table's."""
        given = [text.partition("=")[2].strip() for text in self.overrides if text.partition("=")[0].strip() == "name"]
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", self.facts.stem).strip("-._") or "facts"
        return given[-1] if given else f"{stem}-pack"

    @property
    def folder(self) -> Path:
        """Where the adapter and all that is said of it go."""
        return self.out or Path(self.name)


def validate_request(request: PackRequest) -> None:
    """Raise UserError naming the argument that makes no sense."""
    if request.trials < 1:
        raise UserError(f"{request.trials} trials find nothing; give at least 1", field="--trials")
    if request.hours is not None and not request.hours > 0:
        raise UserError(f"{request.hours:g} hours are no time; give a number above 0", field="--hours")
    if not 0 < request.margin < 1:
        raise UserError(f"{request.margin:g} is no share; give a harm between 0 and 1, such as 0.02 for 2 points", field="--margin")
    if request.controls < 4:
        raise UserError(f"{request.controls} control facts tell nothing of a harm; give at least 4", field="--controls")
    if not 0 <= request.paraphrases <= 10:
        raise UserError(f"{request.paraphrases}: expected 0 to 10", field="--paraphrases")
    for override in request.overrides:
        key = override.partition("=")[0].strip()
        if key in RESERVED:
            raise UserError(f"{key} is decided by {RESERVED[key]}", field="override")


@dataclass(frozen=True)
class PackTables:
    """The tables of a request, checked."""

    facts: pl.DataFrame  # FACTS to teach
    keep: pl.DataFrame | None  # FACTS to keep


def read_tables(request: PackRequest) -> PackTables:
    """The request's tables; UserError naming the argument and the row if one cannot be used, or if they share a fact."""
    facts = _read(request.facts, FACTS_FIELD)
    if request.keep is None:
        return PackTables(facts, None)
    keep = _read(request.keep, KEEP_FIELD)
    shared = keep.filter(same_facts(keep, facts))
    if len(shared):
        raise UserError(
            f"{request.keep}: {len(shared):,} of its facts are also in {request.facts}, the first is '{shared['question'][0]}'; "
            "a fact is either taught or kept: take it out of one of the tables",
            field=KEEP_FIELD,
        )
    return PackTables(facts, keep)


def same_facts(facts: pl.DataFrame, others: pl.DataFrame) -> pl.Series:
    """Which of the FACTS are among `others`, by id or by the wording of the question."""
    ids, questions = set(others["fact_id"]), {question_key(question) for question in others["question"]}
    rows = zip(facts["fact_id"], facts["question"], strict=True)
    return pl.Series([fact_id in ids or question_key(question) in questions for fact_id, question in rows], dtype=pl.Boolean)


def _read(path: Path, field: str) -> pl.DataFrame:
    if is_dump(str(path)):
        raise UserError(f"{path}: is a knowledge-graph dump; give a table with the columns question and answer", field=field)
    source = read_source(str(path), field)
    try:
        fit, _ = check_facts(source.facts, str(path), MOST_REJECTED, source.rows, source.unread)
    except UserError as error:
        raise UserError(error.message, field=field) from None
    return frame(fit)
