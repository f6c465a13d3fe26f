"""kp bench train of an adapter of some layers: what takes part, and what is told of it."""

from typing import Any

import pytest

from kp.bench.measured import Measured
from kp.bench.options import TrainOptions
from kp.bench.train_outcome import Record, outcome
from kp.bench.train_table import text
from kp.bench.train_trial import Kept, KpTrial, ReleasedTrial, TrainEpoch, Trainer, TrainStart, trial_job
from kp.errors import UserError

_OPTIONS = TrainOptions(facts=8, epochs=2, threads=1, layers="upper:8")


def _outcome() -> dict[str, Any]:
    """Two epochs of one step: 2 seconds each by kp, 6 by the released way, and 10 with all layers, whose start is another."""
    seconds = {Trainer.KP: 2.0, Trainer.RELEASED: 6.0, Trainer.GROUPED: 5.0, Trainer.ALL_LAYERS: 10.0}
    ends: dict[Trainer, Any] = {trainer: ReleasedTrial(None) for trainer in Trainer}
    ends[Trainer.KP] = KpTrial(wall=4.0, setup=2.0, training=1.5, kept=Kept(22, 150, 150 * 2504, 0.5))
    record = Record(
        {trainer: TrainStart("all" if trainer is Trainer.ALL_LAYERS else "some", 135, "revision", "cpu") for trainer in Trainer},
        {trainer: [TrainEpoch(took, 8, 300, 200, (2.0,))] * 2 for trainer, took in seconds.items()},
        {trainer: Measured(end, 2 << 30) for trainer, end in ends.items()},
    )
    return outcome(_OPTIONS, trial_job(_OPTIONS, use_gpu=False), record)


def test_trial_job_has_the_layers_of_the_options() -> None:
    spec = trial_job(TrainOptions(facts=2, layers="28,20"), use_gpu=False).spec
    assert (spec.layers, spec.training.layers) == ("20,28", "20,28")


def test_layers_that_say_nothing_are_refused() -> None:
    with pytest.raises(UserError, match=r"layers: 'lower:8': .*expected 'all', 'upper:K'"):
        trial_job(TrainOptions(facts=2, layers="lower:8"), use_gpu=False)


def test_outcome_compares_with_the_same_adapter_and_with_one_of_all_layers() -> None:
    result = _outcome()
    assert {name: ratio["all"] for name, ratio in result["ratios"].items()} == {"released": 3.0, "grouped": 2.5, "all layers": 5.0}
    assert result["agreement"]["equal"] is True
    assert result["kept"] == {"first_layer": 22, "tokens": 150, "bytes": 150 * 2504, "token_bytes": 2504, "seconds": 0.5}
    assert result["limit"] is None


def test_text_says_what_is_kept_and_what_it_takes() -> None:
    lines = text(_outcome()).splitlines()
    assert any(line.startswith("all layers ") and "5.00 times" in line for line in lines)
    told = "\n".join(lines)
    assert "kp keeps what enters layer 22, the first adapted one: 150 tokens, 0.4 MiB,\n2,504 bytes a token." in told
    assert "From the second epoch on kp is 3.00 times as fast as released, 2.50 times as fast as grouped, 5.00" in told
    assert "read them once, in 0.5 s, which the first epoch includes." in told
