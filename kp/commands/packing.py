"""`kp pack`: from a table of facts to one adapter."""

from pathlib import Path
from typing import Annotated

import tyro

from kp.commands.application import Overrides, study_command

Facts = Annotated[Path, tyro.conf.arg(name="facts", metavar="FACTS")]


def _pack(
    facts: tyro.conf.Positional[Facts],
    overrides: tyro.conf.Positional[Overrides] = (),
    model: str = "smollm2-135m-instruct",
    keep: Path | None = None,
    trials: int = 3,
    hours: float | None = None,
    margin: float = 0.02,
    controls: int = 24,
    paraphrases: int = 0,
    results: Path = Path("runs"),
    out: Path | None = None,
    dry_run: bool = False,
) -> int:
    """Pack a table of facts into one adapter, with no harm beyond a margin if one is found.

    Args:
        facts: A table with the columns question and answer, as facts.source of a study.
        overrides: Values of the study that is written, such as training.epochs=40 or search.learning_rate=[1e-4,3e-4].
        model: The embedded model's name, a folder, or a Hub id.
        keep: A table of facts that must not be lost: harm is told on them. Absent: built-in facts that the model knows.
        trials: Most adapters to train: half of them on rates, then mixes, then ranks.
        hours: Most hours; fewer trials are run if not all of them fit.
        margin: The harm that counts as small, a share of the right answers: 0.02 is 2 points.
        controls: Built-in facts on which harm is told; more of them resolve a smaller harm, and each takes its time.
        paraphrases: Also train on this many paraphrases of each fact, from the table or, where it has fewer, written by the model itself.
        results: Folder of all studies' results.
        out: Folder for the adapter and what is said of it. Absent: named as the study, the table's name with -pack.
        dry_run: Print the plan and its price and stop.
    """
    from kp.packing.request import PackRequest
    from kp.packing.run import pack

    request = PackRequest(facts, model, results, out, keep, trials, hours, margin, controls, paraphrases, overrides)
    return pack(request, dry_run=dry_run)


def add() -> None:
    """Add this command to the application."""
    study_command("pack", _pack)
