"""What earlier trials say of the next ones."""

from pathlib import Path

from kp.commands.application import app


def _plan(
    facts: int,
    tolerance: float = 0.02,
    model: str | None = None,
    model_parameters: float | None = None,
    results: tuple[Path, ...] = (),
    rank: tuple[int, ...] = (),
    next: int = 4,
    to: Path = Path("planned"),
) -> int:
    """Choose rank, learning rate, mix and steps for a number of facts, from the trials that were measured; nothing is trained.

    Args:
        facts: How many new facts to pack.
        tolerance: Harm that counts as small, a share of right answers to known facts.
        model: The base model, as model.name; absent, the embedded one.
        model_parameters: How many parameters it has, where that is not known here, such as 1.2e9.
        results: Folders of studies, such as runs or results/replay; the trials that ship with kp always count too.
        rank: Choose among these ranks only.
        next: How many trials to propose as a study file; 0 for none.
        to: Folder for plan.md, plan.txt, the picture, experience.csv and next.toml.
    """
    from kp.study.advising import plan_facts

    return plan_facts(facts, tolerance, model, model_parameters, results, rank, next, to)


def add() -> None:
    """Add these commands to the application."""
    app.command(name="plan")(_plan)
