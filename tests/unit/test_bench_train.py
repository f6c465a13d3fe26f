"""kp bench train: the trial that the implementations are handed, the line to their processes, and what is made of what they tell."""

import dataclasses
import math
from typing import Any

import pytest

from kp.bench.measured import Measured
from kp.bench.options import DType, Shape, TrainOptions
from kp.bench.train_limits import ForwardRates
from kp.bench.train_line import TrainingProcess
from kp.bench.train_outcome import Record, outcome
from kp.bench.train_table import markdown, text
from kp.bench.train_trial import KpTrial, ReleasedTrial, TrainEpoch, Trainer, TrainStart, trial_job
from kp.errors import UserError
from kp.training.job import TrialJob
from kp.training.laps import Lap
from kp.vocabulary import Attention, LossTokens
from tests.bench_implementations import breaks_in_its_second_epoch, ends_after_one_epoch, refuses, stops_early

_START = TrainStart("digest", 135_000_000, "revision", "cpu")


def test_trial_job_is_the_released_scripts_training_on_drawn_facts() -> None:
    job = trial_job(TrainOptions(facts=5, paraphrases=2, rank=4), use_gpu=False)

    assert job.rows["role"].to_pylist() == ["unknown"] * 5 + ["paraphrase"] * 10
    assert set(job.eval_facts["fact_id"].to_pylist()) == set(job.rows["fact_id"].to_pylist())
    spec = job.spec
    assert (
        spec.training.batch_size,
        spec.lora_alpha,
        spec.training.use_rslora,
        spec.training.weight_decay,
        spec.training.warmup_ratio,
    ) == (8, 8, True, 0, 0)
    assert (spec.training.max_grad_norm, spec.training.max_length, spec.training.loss) == (1.0, 768, LossTokens.FULL_TEXT)
    assert spec.training.target_modules == ("down_proj", "gate_proj", "up_proj")
    assert job.rows.equals(trial_job(TrainOptions(facts=5, paraphrases=2, rank=4), use_gpu=False).rows)
    assert not job.rows.equals(trial_job(TrainOptions(facts=5, paraphrases=2, rank=4, seed=1), use_gpu=False).rows)


def test_trial_job_of_more_facts_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match="facts: 1000000 are asked for"):
        trial_job(TrainOptions(facts=1_000_000), use_gpu=False)


def test_trial_job_of_a_shape_has_the_attention_of_a_gpu_because_it_has_no_files_to_time() -> None:
    assert trial_job(TrainOptions(facts=2, shape=Shape.TINY), use_gpu=False).engine.attention is Attention.SDPA


@pytest.fixture(scope="module")
def job() -> TrialJob:
    return trial_job(TrainOptions(facts=2), use_gpu=False)


def test_training_process_that_cannot_start_raises_its_error(job: TrialJob) -> None:
    with pytest.raises(UserError, match=r"model\.name: there is none"):
        TrainingProcess(refuses, job)


def test_training_process_that_breaks_in_a_turn_raises_its_error(job: TrialJob) -> None:
    with TrainingProcess(breaks_in_its_second_epoch, job) as process:
        assert process.start.device == "cpu"
        assert process.epoch().step_losses == (2.0,)
        with pytest.raises(ValueError, match="a bug"):
            process.epoch()


def test_training_process_ends_once_it_may(job: TrialJob) -> None:
    with TrainingProcess(ends_after_one_epoch, job) as process:
        process.epoch()
        assert process.end().result == "the end"


def test_training_process_that_may_not_end_waits(job: TrialJob) -> None:
    """What it does at its end would be charged to the others' last turn."""
    with TrainingProcess(ends_after_one_epoch, job) as process:
        process.epoch()
    with pytest.raises(EOFError):
        process.end()


def test_training_process_that_stops_early_raises(job: TrialJob) -> None:
    with TrainingProcess(stops_early, job) as process, pytest.raises(RuntimeError, match="ended early, with 'nothing'"):
        process.epoch()


def test_training_process_that_is_cut_short_ends(job: TrialJob) -> None:
    with TrainingProcess(breaks_in_its_second_epoch, job) as process:
        pass

    with pytest.raises(EOFError):
        process.end()


def test_forward_rates_are_the_highest_of_each_with_the_size_of_the_fastest() -> None:
    one, other = ForwardRates(100.0, 90.0, 200.0, 40, 320), ForwardRates(110.0, 80.0, 180.0, 40, 160)

    assert one.better(other) == other.better(one) == ForwardRates(110.0, 90.0, 200.0, 40, 320)
    assert ForwardRates().better(one) == one


def _record(kp_losses: tuple[float, ...] = (2.0, 1.0), released_start: str = "digest") -> Record:
    """Two epochs of one step: kp takes 2 and 3 seconds, the released way 6 and 4, and 5 and 3 with rows of similar length."""
    starts = {Trainer.KP: _START, Trainer.RELEASED: dataclasses.replace(_START, digest=released_start), Trainer.GROUPED: _START}
    ours = [TrainEpoch(seconds, 8, 300, 200, (loss,)) for seconds, loss in zip((2.0, 3.0), kp_losses, strict=True)]
    theirs = [TrainEpoch(seconds, 8, 300, 400, (loss,)) for seconds, loss in ((6.0, 2.0), (4.0, 1.0))]
    grouped = [TrainEpoch(seconds, 8, 300, 320, (loss,)) for seconds, loss in ((5.0, 2.1), (3.0, 1.1))]
    laps = {Lap.DATA: 0.1, Lap.FORWARD: 1.9, Lap.BACKWARD: 2.4, Lap.OPTIMIZER: 0.5}
    forward = ForwardRates(200.0, 250.0, 400.0, 40, 320)
    trial = KpTrial(load=1.0, wall=10.0, setup=2.0, training=5.0, evals=1.5, checkpoints=1.0, laps=laps, forward=forward)
    return Record(
        starts,
        {Trainer.KP: ours, Trainer.RELEASED: theirs, Trainer.GROUPED: grouped},
        {
            Trainer.KP: Measured(trial, 2 << 30),
            Trainer.RELEASED: Measured(ReleasedTrial(None), 4 << 30),
            Trainer.GROUPED: Measured(ReleasedTrial(None), 4 << 30),
        },
    )


_OPTIONS = TrainOptions(facts=8, epochs=2, threads=1)


def _outcome(options: TrainOptions = _OPTIONS, **record: Any) -> dict[str, Any]:
    return outcome(options, trial_job(options, use_gpu=False), _record(**record))


def test_outcome_holds_rates_and_ratios() -> None:
    result = _outcome()

    kp, released = result["implementations"]["kp"], result["implementations"]["released"]
    assert (kp["rows"], kp["seconds"], kp["samples_per_s"], kp["tokens_per_s"], kp["read_tokens"]) == (16, 5.0, 3.2, 120.0, 400)
    assert (released["seconds"], released["samples_per_s"], released["tokens_per_s"]) == (10.0, 1.6, 60.0)
    ratio = result["ratios"]["released"]
    assert (ratio["all"], ratio["read_tokens"], ratio["peak_memory"], ratio["peak_device_memory"]) == (2.0, 0.5, 0.5, None)
    assert ratio["epochs"] == pytest.approx([3.0, 4 / 3])
    grouped = result["ratios"]["grouped"]
    assert (grouped["all"], grouped["read_tokens"]) == (1.6, 0.625)
    assert result["padding"] == {"released": 0.25, "grouped": 1 - 600 / 640}
    limit = result["limit"]
    assert limit["read_tokens_per_s"] == 80.0
    assert limit["same_passes"] == {"tokens_per_s": 200.0, "pass_tokens": None, "share": 0.8}
    assert limit["same_size"] == {"tokens_per_s": 250.0, "pass_tokens": 40, "share": 0.64}
    assert limit["best_size"] == {"tokens_per_s": 400.0, "pass_tokens": 320, "share": 0.4}
    assert result["step"] == pytest.approx({"data": 0.05, "forward": 0.95, "backward": 1.2, "optimizer": 0.25, "rest": 0.05})
    assert result["trial"]["parts"] == {"setup": 2.0, "training": 5.0, "evals": 1.5, "checkpoints": 1.0, "rest": 0.5}
    assert result["trial"]["share_of_training"] == 0.5


@pytest.mark.parametrize(
    ("record", "equal", "difference"),
    [
        ({"kp_losses": (2.0, 1.005)}, True, 0.005),
        ({"kp_losses": (2.0, 1.02)}, False, 0.02),
        ({"kp_losses": (2.0, math.nan)}, False, math.inf),
        ({"released_start": "another"}, False, 0.0),
    ],
)
def test_outcome_losses_are_equal_within_a_hundredth_from_the_same_start(record: dict[str, Any], equal: bool, difference: float) -> None:
    agreement = _outcome(**record)["agreement"]

    assert agreement["equal"] is equal
    assert agreement["final_loss"]["difference"] == pytest.approx(difference)
    assert agreement["same_start"] is ("released_start" not in record)


def test_outcome_under_dropout_does_not_judge_the_losses() -> None:
    assert _outcome(dataclasses.replace(_OPTIONS, dropout=0.1), kp_losses=(2.0, 1.5))["agreement"]["equal"] is None


def test_outcome_of_a_shape_names_it_in_place_of_the_model_whose_tokenizer_it_takes() -> None:
    model = _outcome(dataclasses.replace(_OPTIONS, shape=Shape.LLAMA_3_1_8B))["model"]

    assert (model["name"], model["revision"]) == ("random weights of the shape llama-3.1-8b", None)


def test_outcome_says_what_was_left_out_and_whom_that_favours() -> None:
    def left_out(**options: Any) -> list[tuple[str, str]]:
        result = _outcome(dataclasses.replace(_OPTIONS, **options))
        return [(entry["what"].partition(" ")[0].strip(":,"), entry["favours"]) for entry in result["left_out"]]

    assert left_out() == [("LoRA", "neither"), ("bfloat16", "neither")]
    assert left_out(dropout=0.1, dtype=DType.BFLOAT16) == []


def test_text_is_the_result_within_80_columns() -> None:
    lines = text(_outcome()).splitlines()

    assert lines[0] == "kp bench train"
    assert "8 facts, 8 rows of 37.5 tokens, 2 epochs of 1 step, batches of 8" in lines
    assert any(line.split() == ["released", "10.0", "1.60", "60", "2.00", "times", "800", "4.00"] for line in lines)
    assert any(line.split() == ["grouped", "8.0", "2.00", "75", "1.60", "times", "640", "4.00"] for line in lines)
    assert any(line.split() == ["2", "3.0", "4.0", "3.0", "1.33", "times", "1.00000", "1.00000"] for line in lines)
    assert any(line.split()[-3:] == ["200", "80", "40.0%"] for line in lines)
    assert any(line.split() == ["clipping", "and", "AdamW", "by", "DeepSpeed", "250.0", "10.0%"] for line in lines)
    assert "kp read 2.00 times fewer tokens than the released way, 1.60 times fewer than grouped." in lines
    assert any(line.split() == ["training", "5.0", "50.0%"] for line in lines)
    tables = [line for line in lines if "  " in line]
    assert max(map(len, tables)) <= 80


def test_text_of_different_losses_shouts() -> None:
    assert "THE FINAL LOSSES DIFFER: 50.000% apart" in text(_outcome(kp_losses=(2.0, 1.5)))
    assert "LoRA began NOT THE SAME" in text(_outcome(released_start="another"))


def test_text_of_a_gpu_has_its_memory_too() -> None:
    record = _record()
    record.starts[Trainer.KP] = dataclasses.replace(_START, device="NVIDIA H100")
    for trainer, end in record.ends.items():
        peak = 1 << 30 if trainer is Trainer.KP else 3 << 30
        record.ends[trainer] = Measured(dataclasses.replace(end.result, peak_device_memory=peak), 1 << 30)

    result = outcome(_OPTIONS, trial_job(_OPTIONS, use_gpu=True), record)

    assert result["ratios"]["released"]["peak_device_memory"] == pytest.approx(1 / 3)
    (row,) = (line for line in text(result).splitlines() if line.startswith("released"))
    assert row.split()[-1] == "3.00"
    assert result["step"] is None
    assert "a step of kp" not in text(result)


def test_markdown_has_a_title_and_the_same_tables() -> None:
    made = markdown(_outcome())

    assert made.startswith("# kp bench train\n")
    assert "| released | 10.0 | 1.60 | 60 | 2.00 times | 800 | 4.00 |" in made
    assert "| in all | 10.0 | 100.0% |" in made
    assert "The final losses are equal: 0.000% apart, 1% allowed." in made
