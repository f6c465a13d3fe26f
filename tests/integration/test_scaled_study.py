"""A finished study that asks for another scale: only that is measured, and the report has the curve."""

from pathlib import Path

import polars as pl
import pytest

from kp.generation.adapters import adapter_digest
from kp.metrics.scale_curve import best_scale
from tests.conftest import Kp
from tests.tiny_study import NAME

MARGIN = 0.99


@pytest.mark.studies
def test_study_with_another_scale_measures_that_alone_and_saves_what_it_chooses(tiny_study: Path, tiny_copy: Path, kp_on_ray: Kp) -> None:
    trained = {path.parent.name: path.read_bytes() for path in tiny_copy.glob("store/trial/*/record.json")}
    done = kp_on_ray("study", tiny_study, "evaluate.scales=[0.5,1.0]", f"report.margin={MARGIN}", "--results", tiny_copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "measurements already done, not redone" in done.stdout
    assert {path.parent.name: path.read_bytes() for path in tiny_copy.glob("store/trial/*/record.json")} == trained

    report = tiny_copy / NAME / "report"
    curve = pl.read_parquet(report / "tables" / "scale_curve.parquet")
    assert curve["scale"].unique().sort().to_list() == [0.5, 1.0]
    assert set(curve["trial_id"]) == set(trained)
    assert "Less of an adapter" in (report / "report.md").read_text(encoding="utf-8")
    assert (report / "figures" / "scales.png").exists()
    for trial_id in trained:
        chosen = tiny_copy / NAME / "adapters" / f"{trial_id}@0.5"
        assert chosen.exists() == (best_scale(curve, trial_id, MARGIN) == 0.5)
        if chosen.exists():
            assert adapter_digest(chosen) != adapter_digest(chosen.with_name(trial_id))
