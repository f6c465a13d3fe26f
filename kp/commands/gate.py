"""`kp gate`: whether an adapter is fit to ship."""

from pathlib import Path
from typing import Annotated

import tyro

from kp.commands.application import app

Adapters = Annotated[tuple[str, ...], tyro.conf.arg(name="adapters", metavar="[ADAPTER ...]")]


def _gate(
    adapters: tyro.conf.Positional[Adapters] = (),
    *,
    model: str,
    candidate: Path | None = None,
    baseline: Path | None = None,
    save_baseline: Path | None = None,
    margins: Path | None = None,
    controls: int | None = None,
    keep: Path | None = None,
    facts: Path | None = None,
    json: Path | None = None,
    junit: Path | None = None,
    markdown: Path | None = None,
    results: Path = Path("runs"),
) -> int:
    """Measure adapters against their base, and pass, fail or leave each unresolved by margins that are stated beforehand.

    Exit codes: 0 all pass; 1 one fails; 2 bad input; 3 none fails, but the facts asked do not resolve one.

    Args:
        adapters: Folders in PEFT's format, or Hub ids.
        model: The base: the embedded model's name, a folder, or a Hub id.
        candidate: The folder of a merged checkpoint to measure like an adapter.
        baseline: What --save-baseline wrote: the base's answers, which are then not measured again.
        save_baseline: Write the base's answers to the control facts to this file, to commit it.
        margins: A TOML file with the harms that count as small; without it, kp's own.
        controls: Number of built-in control facts that the base knows; 250 unless --keep gives them.
        keep: A table of facts that must not be lost; without --controls, knowledge is judged on them too.
        facts: A table of facts that should have been learned.
        json: Write the verdict as JSON.
        junit: Write it as JUnit XML.
        markdown: Write a summary for a pull request.
        results: Folder in which measurements are kept, so that none is made twice.
    """
    from kp.gate.gate import GateOptions, run_gate
    from kp.gate.output import Output

    options = GateOptions(adapters, model, candidate, baseline, save_baseline, margins, controls, keep, facts, results)
    return run_gate(options, Output(json, junit, markdown))


def add() -> None:
    """Add these commands to the application."""
    app.command(name="gate")(_gate)
