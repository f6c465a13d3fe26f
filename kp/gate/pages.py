"""The verdict for people: one screen of 80 columns, and a summary for a pull request. Pure: a result in, a text out."""

import textwrap
from collections.abc import Iterator

from kp.gate.verdict import CandidateVerdict, Check, GateResult, Outcome, Quantity
from kp.report.terminal import WIDTH
from kp.vocabulary import Verdict

_WORDS = {Outcome.PASS: "PASS", Outcome.FAIL: "FAIL", Outcome.NOT_RESOLVED: "NOT RESOLVED"}
_MARKS = {Outcome.PASS: "✅", Outcome.FAIL: "❌", Outcome.NOT_RESOLVED: "❔"}
_HEAD = ("quantity", "harm", "95% interval", "margin", "verdict")
_WIDTHS = (13, 9, 19, 8, 27)
_SHOWN_FACTS = 5


def screen_of(result: GateResult) -> str:
    """One screen, at most 80 columns wide."""
    return "\n".join(_screen_lines(result))


def _screen_lines(result: GateResult) -> Iterator[str]:
    yield from _wrapped(f"kp gate: {len(result.candidates)} candidate(s) against {result.model} ({result.revision}), "
                        f"{result.controls} control facts, {result.prompts} prompts each")  # fmt: skip
    for note in result.notes:
        yield from _wrapped(f"note: {note}")
    for candidate in result.candidates:
        yield ""
        yield from _candidate_lines(candidate)
    yield ""
    yield f"{_WORDS[result.outcome]} (exit code {int(result.exit_code)}) in {result.seconds:.0f} s"


def _candidate_lines(candidate: CandidateVerdict) -> Iterator[str]:
    yield from _wrapped(f"{candidate.name}: {_WORDS[candidate.outcome]}")
    yield _row(_HEAD)
    for one in candidate.quantities:
        yield _row((one.name, *_figures(one), verdict_text(one)))
        yield from _wrapped(f"  {said(one)}", "    ")
    for check in candidate.checks:
        yield from _wrapped(f"{check.name}: {_WORDS[check.outcome]}: {check.summary}", "  ")
        yield from (line for fact in _shown(check) for line in _wrapped(f"  - {fact}", "    "))
    for note in candidate.notes:
        yield from _wrapped(f"note: {note}", "  ")


def said(one: Quantity) -> str:
    """What the figures come from, and what would resolve them."""
    text = f"{one.n} {one.of}; {one.note}" if one.note else f"{one.n} {one.of}"
    if one.outcome is Outcome.NOT_RESOLVED:
        found = f"about {one.needed:,} {one.of} would resolve it" if one.needed else "no number would resolve it: it is at the margin"
        text += f"; {found}"
    return text


def verdict_text(one: Quantity) -> str:
    """The verdict in words."""
    if one.outcome is Outcome.FAIL:
        return "harm beyond the margin"
    if one.outcome is Outcome.NOT_RESOLVED:
        return "harm, how much not resolved" if one.verdict is Verdict.HARM_SHOWN else "not resolved"
    return "a harm within the margin" if one.verdict is Verdict.HARM_SHOWN and one.unit == "share" else "no harm beyond margin"


def markdown_of(result: GateResult) -> str:
    """A summary for a pull request."""
    return "\n".join(_markdown_lines(result)) + "\n"


def _markdown_lines(result: GateResult) -> Iterator[str]:
    yield f"### {_MARKS[result.outcome]} kp gate: {_WORDS[result.outcome].lower()}"
    yield ""
    yield f"Base `{result.model}` ({result.revision}), {result.controls} control facts, {result.prompts} prompts each."
    for note in result.notes:
        yield f"\n> {note}"
    for candidate in result.candidates:
        yield f"\n**{_MARKS[candidate.outcome]} `{candidate.name}`**\n"
        yield "| quantity | harm | 95% interval | margin | verdict | |"
        yield "|---|---:|---:|---:|---|---|"
        for one in candidate.quantities:
            yield f"| {one.name} | {' | '.join(_figures(one))} | {_MARKS[one.outcome]} {verdict_text(one)} | {said(one)} |"
        if candidate.checks or candidate.notes:
            yield ""
        for check in candidate.checks:
            facts = "".join(f"\n  - {fact}" for fact in _shown(check))
            yield f"- {_MARKS[check.outcome]} {check.name}: {check.summary}{facts}"
        yield from (f"- {note}" for note in candidate.notes)
    yield f"\n<details><summary>margins</summary>\n\n```toml\n{result.margins}```\n\n</details>"


def _figures(one: Quantity) -> tuple[str, str, str]:
    """Harm, interval and margin: points with one decimal, nats with three."""
    scale, digits = (100.0, 1) if one.unit == "share" else (1.0, 3)

    def written(value: float) -> str:
        return f"{value * scale + 0.0:+.{digits}f}".replace(f"-{0:.{digits}f}", f"+{0:.{digits}f}")

    interval = "none" if one.lower is None or one.upper is None else f"{written(one.lower)} to {written(one.upper)}"
    return written(one.harm), interval, f"{one.margin * scale:.{digits}f}"


def _shown(check: Check) -> list[str]:
    more = len(check.facts) - _SHOWN_FACTS
    return [*check.facts[:_SHOWN_FACTS], *([f"and {more} more"] if more > 0 else [])]


def _row(cells: tuple[str, ...]) -> str:
    return " ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent)
