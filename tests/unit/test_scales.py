"""Adapters at several scales: which steps they have, and that those at scale 1 are the same with and without the others."""

from pathlib import Path

import pytest

from kp.config.faults import InvalidStudyError
from kp.config.study import load_study
from kp.store.steps import Step
from kp.study.building import build_graph
from kp.study.identities import Identities
from kp.study.measurement import plain_name, scaled_name

SMOKE = Path(__file__).parents[2] / "ray_jobs" / "studies" / "smoke.toml"


def measurements(*overrides: str) -> dict[str, Step]:
    graph = build_graph(load_study(SMOKE, list(overrides)), Identities("model", "facts", "shots"))
    return dict(graph.trials[0].measurements)


def test_adapter_at_several_scales_has_every_measurement_once_a_scale() -> None:
    plain, scaled = measurements(), measurements("evaluate.scales=[0.25, 0.5, 1.0]")
    again = {name for name in plain if name not in ("generality", "reversal")}
    assert set(scaled) == set(plain) | {f"{name}@{scale}" for name in again for scale in ("0.25", "0.5")}
    assert len({step.fingerprint for step in scaled.values()}) == len(scaled)
    assert {name: scaled[name].fingerprint for name in plain} == {name: step.fingerprint for name, step in plain.items()}


def test_name_at_a_scale_leads_back_to_the_measurement() -> None:
    assert [scaled_name("answers/S1", scale) for scale in (0.25, 1.0)] == ["answers/S1@0.25", "answers/S1"]
    assert {plain_name(scaled_name("answers/S1", scale)) for scale in (0.25, 1.0)} == {"answers/S1"}


@pytest.mark.parametrize("scales", ["[]", "[0.5]", "[0.0, 1.0]", "[1.0, 0.5]", "[0.5, 0.5, 1.0]", "[1.0, 2.0]"])
def test_scales_that_do_not_ascend_to_1_are_refused(scales: str) -> None:
    with pytest.raises(InvalidStudyError, match=r"evaluate\.scales"):
        load_study(SMOKE, [f"evaluate.scales={scales}"])


def test_only_adapters_of_the_scaled_seeds_are_measured_at_other_scales() -> None:
    overrides = ["search.seeds=[3, 4]", "evaluate.scales=[0.5, 1.0]", "seed=7"]
    alone = build_graph(load_study(SMOKE, [*overrides, "evaluate.scaled_seeds=[4]"]), Identities("model", "facts", "shots")).trials
    every = build_graph(load_study(SMOKE, overrides), Identities("model", "facts", "shots")).trials

    for one, other in zip(alone, every, strict=True):
        scaled = one.spec.seed == 7 + 4
        assert any("@" in name for name in one.measurements) is scaled
        assert {name: step.fingerprint for name, step in other.measurements.items() if scaled or "@" not in name} == {
            name: step.fingerprint for name, step in one.measurements.items()
        }
    assert {trial.spec.seed for trial in alone} == {10, 11}


@pytest.mark.parametrize(("scales", "seeds"), [("[0.5, 1.0]", "[5]"), ("[1.0]", "[0]")])
def test_scaled_seeds_that_no_trial_has_or_without_scales_are_refused(scales: str, seeds: str) -> None:
    with pytest.raises(InvalidStudyError, match=r"evaluate\.scaled_seeds"):
        load_study(SMOKE, [f"evaluate.scales={scales}", f"evaluate.scaled_seeds={seeds}"])
