"""What the gate says of a candidate: one judged quantity after the other, checks of single facts, and what follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from kp.vocabulary import Verdict


class Outcome(StrEnum):
    """Of a quantity, a check or a candidate."""

    PASS = "pass"
    FAIL = "fail"
    NOT_RESOLVED = "not_resolved"


class ExitCode(IntEnum):
    """Of the command; 2 is bad input, as everywhere in kp."""

    PASS = 0
    FAIL = 1
    NOT_RESOLVED = 3


@dataclass(frozen=True)
class Quantity:
    """One measured harm; larger is worse. Shares and limits are fractions, those of drift nats per token."""

    name: str
    unit: str  # share, nats
    harm: float
    lower: float | None  # of the 95% interval
    upper: float | None
    margin: float
    outcome: Outcome
    verdict: Verdict  # kp's own: whether any harm is shown, however small
    n: int
    of: str  # what is counted by n: control facts, texts, questions
    needed: int | None = None  # of these, that would resolve it at the spread found; None if resolved, or if no number would
    note: str = ""


@dataclass(frozen=True)
class Check:
    """A rule about single facts: `--keep`, `--facts`."""

    name: str
    outcome: Outcome
    summary: str
    facts: tuple[str, ...] = ()  # the questions of those at fault


@dataclass(frozen=True)
class CandidateVerdict:
    """All that is said of one adapter or merged checkpoint."""

    name: str
    identity: str  # digest or revision
    quantities: tuple[Quantity, ...]
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def judged(self) -> tuple[Quantity | Check, ...]:
        """Everything that can fail."""
        return (*self.quantities, *self.checks)

    @property
    def outcome(self) -> Outcome:
        """Fail if anything fails, else not resolved if anything is not."""
        return worst([one.outcome for one in self.judged])

    @property
    def needed(self) -> int | None:
        """Control facts that would resolve what control facts are asked for."""
        numbers = [one.needed for one in self.quantities if one.needed is not None and one.of == CONTROL_FACTS]
        return max(numbers, default=None)


@dataclass(frozen=True)
class GateResult:
    """A whole run: what was asked of which model, and the verdict on each candidate."""

    model: str
    revision: str
    controls: int
    prompts: int  # per fact
    margins: str  # as TOML
    candidates: tuple[CandidateVerdict, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    settings: dict[str, str | int] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """The worst of all candidates."""
        return worst([one.outcome for one in self.candidates])

    @property
    def exit_code(self) -> ExitCode:
        """Of the command."""
        return ExitCode[self.outcome.name]


CONTROL_FACTS = "control facts"


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """Fail before not resolved before pass."""
    for one in (Outcome.FAIL, Outcome.NOT_RESOLVED):
        if one in outcomes:
            return one
    return Outcome.PASS
