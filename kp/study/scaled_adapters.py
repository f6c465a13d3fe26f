"""The adapter of a trial at its best scale, saved as an adapter of its own: it loads anywhere, with no knob to set."""

import time
from pathlib import Path

import polars as pl

from kp.generation.adapters import save_scaled_adapter
from kp.metrics.scale_curve import best_scale
from kp.store.filenames import ADAPTER_FOLDER
from kp.store.steps import Step
from kp.study.graph import Trial
from kp.study.measurement import scaled_name
from kp.study.session import Session

KIND = "scaled_adapter"


def save_chosen_scales(session: Session, curve: pl.DataFrame | None) -> None:
    """Save the adapter of each trial in SCALE_CURVE whose best scale is below 1, and link it into the study's folder."""
    trials = {trial.trial_id: trial for trial in session.graph.trials}
    for trial_id in [] if curve is None else curve["trial_id"].unique().sort():
        scale = best_scale(curve, trial_id, session.config.report.margin) if curve is not None else None
        if scale is not None and scale < 1:
            step = _saved(session, trials[trial_id], scale)
            session.link(f"adapters/{scaled_name(trial_id, scale)}", step, ADAPTER_FOLDER)


def _saved(session: Session, trial: Trial, scale: float) -> Step:
    step = Step(KIND, {"version": 1, "scale": scale}, (trial.step,))
    if not session.store.is_done(step):
        began, whole = time.monotonic(), session.store.file(trial.step, ADAPTER_FOLDER)

        def fill(folder: Path) -> None:
            save_scaled_adapter(whole, scale, folder / ADAPTER_FOLDER)

        session.store.commit(step, fill, seconds=time.monotonic() - began)
    return step
