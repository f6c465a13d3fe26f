"""Once the base's categories are known, some facts are kept out of all training: control facts, of which harm is told."""

import time
from collections.abc import Mapping
from typing import Any

from kp import schema
from kp.config.identity import Reads
from kp.metrics.parts import ControlShares, control_counts, draw_parts, resolvable_change
from kp.schema import frame
from kp.store.filenames import CATEGORIES_FILE, PARTS_FILE
from kp.store.steps import Step
from kp.study.session import Session
from kp.study.stage import Command, Making, Planning, Stage, Work
from kp.study.trial_jobs import base_classes
from kp.vocabulary import Category, Part


class Parts(Stage):
    """Its step is absent if `facts.control_share` is 0; otherwise every trial depends on it."""

    name = "parts"
    command = Command.CATEGORISE
    version = 1
    reads = Reads(("facts.control_share", "facts.control_unknown_share", "categorise.matcher", "seed"))
    tables = {PARTS_FILE: schema.PARTS}

    def step(self, making: Making) -> Step | None:
        """Depends on what the base knows."""
        if not making.config.facts.control_share:
            return None
        # The seed is always stated, because a default seed is as much a choice as any other.
        return Step(self.name, self.literals(making) | {"seed": making.config.seed}, making.known)

    def plan(self, planning: Planning) -> Work | None:
        """The shares; once they are drawn, how many of each there are, and which change they can resolve."""
        steps, facts = self.steps(planning.graph), planning.config.facts
        if not steps:
            return None
        record = planning.store.record(steps[0]) if planning.store.is_done(steps[0]) else None
        if record is None:
            shares = f"{100 * facts.control_share:g}% of what the base knows, {100 * facts.control_unknown_share:g}% of what it does not"
            return Work(f"{shares}: control facts, kept out of training", steps)
        return Work(_text(record["details"]), steps)

    def run(self, session: Session) -> None:
        """Draw them."""
        step, settings = session.graph.steps.get(self.name), session.config.facts
        if step is None or session.is_done(step, self.name):
            return
        began = time.monotonic()
        facts, matcher = frame(session.facts), session.config.categorise.matcher
        classes = base_classes(session)
        shares = ControlShares(settings.control_share, settings.control_unknown_share)
        parts = draw_parts(facts, classes, shares, session.config.seed)
        categories = frame(session.store.read(session.graph.steps["categorise"], CATEGORIES_FILE, schema.CATEGORIES))
        resolvable = resolvable_change(parts, facts, categories, matcher)
        details = {"control": control_counts(parts, classes), "resolvable": {half.value: value for half, value in resolvable.items()}}
        with session.store.working(step):
            session.commit(step, {PARTS_FILE: parts.to_arrow()}, self.tables, began, details)
        session.display.line(f"parts: {_text(details)}")


def _text(details: Mapping[str, Any]) -> str:
    """Control facts by category, and what their test half can resolve."""
    counts = ", ".join(f"{details['control'][category.value]:,} {category}" for category in Category if details["control"][category.value])
    value = details["resolvable"][Part.CONTROL_TEST.value]
    told = "" if value is None else f"; test half resolves a net change of {100 * value:.1f} points at best"
    return f"control facts: {counts or 'none'}{told}"
