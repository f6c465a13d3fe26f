"""The check as JSON and as a page: every step with what it had to show, what it showed, and what was expected of a speed."""

from collections.abc import Sequence
from typing import Any

from kp.bench.table import Page, Table
from tests.gpu_check.running import Outcome

NO_GPU = "Dry form on a CPU with a tiny shape: no GPU was measured, and no speed below means anything."
ESTIMATES = "Expected: estimates for one H100 and Llama-3.1-8B, made before any GPU was measured; they are no results."


def check_record(outcomes: Sequence[Outcome], gpu: str | None) -> dict[str, Any]:
    """All outcomes as one JSON object; `gpu` is None for the dry form."""
    return {"check": "gpu", "gpu": gpu, "steps": [outcome.record() for outcome in outcomes]}


def check_page(record: dict[str, Any]) -> Page:
    """A record as a page, for the terminal and as Markdown."""
    steps = record["steps"]
    rows = tuple((one["step"], one["status"], f"{one['seconds']:.0f}", str(one["budget"])) for one in steps)
    head = ["gpu check", record["gpu"] or NO_GPU, ESTIMATES]
    return Page(head, [Table(("step", "status", "seconds", "budget"), rows)], ["\n".join(lines_of(one)) for one in steps])


def lines_of(one: dict[str, Any]) -> list[str]:
    """A step's lines: what it must show, what it showed, what was expected, what is wrong."""
    expected = [f"- expected, as an estimate: {one['expected']}"] if one["expected"] else []
    return [
        f"{one['step']} ({one['status']}) must show: {one['shows']}",
        *(f"- {line}" for line in one["shown"]),
        *expected,
        *(f"- WRONG: {line}" for line in one["wrong"]),
    ]
