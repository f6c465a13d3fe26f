"""The margins of `kp gate`: a small TOML file, all of whose fields have defaults.

A margin is the harm that counts as small. It is stated before anything is measured, and a verdict says whether the data rule out more.
"""

import math
import tomllib
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, ValidationError

from kp.config.faults import InvalidStudyError, faults_of
from kp.config.section import PositiveInt, Section
from kp.config.toml import toml_value
from kp.errors import UserError
from kp.metrics.intervals import wilson
from kp.metrics.statistics import NORMAL_95

FIELD = "--margins"


class KnowledgeMargin(Section):
    margin: float = Field(0.02, gt=0, lt=1)
    """Loss of right answers to control facts that counts as small, a share: 0.02 is 2 points."""


class RefusalsMargin(Section):
    margin: float = Field(0.02, gt=0, lt=1)
    """Rise of the share of refused answers to control facts that counts as small."""


class DriftMargin(Section):
    margin: float = Field(0.1, gt=0)
    """KL(base || candidate) in nats per token of neutral text that counts as small."""
    words: int = Field(2000, ge=400, le=12000)
    """Words of neutral text that are read."""


class KeepMargin(Section):
    most_lost: int = Field(0, ge=0)
    """Facts of `--keep` that may be lost."""


class LearnedMargin(Section):
    least_right: float = Field(0.9, gt=0, le=1)
    """Least share of right answers to the facts of `--facts`."""


class BenchmarkMargin(Section):
    questions: PositiveInt
    """Number of questions, drawn as `kp benchmarks` draws them."""
    margin: float = Field(0.05, gt=0, lt=1)
    """Loss of score that counts as small."""


class BenchmarksMargin(Section):
    """None of them unless the file asks: each needs many questions before a verdict is possible."""

    completions: BenchmarkMargin | None = None
    mmlu_dev: BenchmarkMargin | None = None
    misconceptions: BenchmarkMargin | None = None


class Margins(Section):
    """All margins; a section that the file leaves out has its defaults."""

    knowledge: KnowledgeMargin = KnowledgeMargin()
    refusals: RefusalsMargin = RefusalsMargin()
    drift: DriftMargin = DriftMargin()
    keep: KeepMargin = KeepMargin()
    learned: LearnedMargin = LearnedMargin()
    benchmarks: BenchmarksMargin = BenchmarksMargin()

    def toml(self) -> str:
        """The margins as a file that gives them, defaults included."""
        return "\n".join(_toml_lines(self)) + "\n"


def load_margins(path: Path | None) -> Margins:
    """The margins of a TOML file, or the defaults; raises UserError naming the file and the field."""
    if path is None:
        return Margins()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be read as TOML: {reason}", field=FIELD) from None
    try:
        return Margins.model_validate(content)
    except ValidationError as error:
        raise InvalidStudyError(path, faults_of(error, Margins)) from None


def least_facts(margin: float) -> int:
    """The control facts below which no interval can exclude a loss of this share, even if no answer changes.

    Wilson's upper limit of 0 in n is z^2 / (n + z^2), so n must be above z^2 (1 - margin) / margin.
    """
    facts = math.floor(NORMAL_95**2 * (1 - margin) / margin)
    while facts < 2 or (wilson(0, facts) or (0.0, 1.0))[1] >= margin:
        facts += 1
    return facts


def _toml_lines(margins: Margins) -> Iterator[str]:
    for name, section in margins.model_dump(exclude_none=True).items():
        if not section:
            continue
        yield f"[{name}]"
        for key, value in section.items():
            yield f"{key} = {toml_value(value)}"
