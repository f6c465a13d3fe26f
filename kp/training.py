"""What one Ray Train worker does in a trial: a DeepSpeed engine over a PEFT model, one report and one checkpoint an epoch.

Everything random in an epoch (row order, dropout) is seeded by the trial's seed and the epoch's number, so a run that was killed and
resumed takes the same steps as one that was not. The loss of a step is the mean over all answer tokens of the *global* batch, whichever
worker holds them: one worker and two take the same step.
"""

import json
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kp.answering import EngineSpec, answer_questions
from kp.encoding import EncodedRow, collate, encode_row, epoch_order, trained_tokens
from kp.models import load_model, load_tokenizer, resolve_model
from kp.prompts import Shot
from kp.trials import TrialSpec
from kp.vocabulary import Matcher, TrialStatus

STATE_TAG = "engine"
PROGRESS = "progress.json"
ADAPTER = "adapter"


@dataclass(frozen=True)
class TrialJob:
    """What a worker is handed: the spec, its training rows, and the facts and prompts that unknown_accuracy is measured on."""

    trial_id: str
    spec: TrialSpec
    engine: EngineSpec
    rows: pa.Table  # TRAINING_ROWS
    probe_facts: pa.Table  # FACTS, the trained Unknown ones
    probe_shots: tuple[tuple[Shot, ...], ...]  # one tuple of shots a prompt
    matcher: Matcher


@dataclass
class Progress:
    """Where a trial stands; saved with every checkpoint."""

    epochs: list[dict[str, float]]
    status: TrialStatus | None = None  # None while it runs
    cause: str | None = None
    trainable_parameters: int = 0

    def save(self, folder: Path) -> None:
        """Write it into a checkpoint."""
        (folder / PROGRESS).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Progress":
        """Read it from a checkpoint."""
        found = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        found["status"] = TrialStatus(found["status"]) if found["status"] else None
        return cls(**found)


def train_trial(loop_config: dict[str, TrialJob]) -> None:
    """Ray Train's loop function: train or resume one trial to its end."""
    import ray.train
    import torch

    job = loop_config["job"]
    if job.engine.threads:
        torch.set_num_threads(job.engine.threads)
    context = ray.train.get_context()
    trainer = _Trainer(job, context.get_world_rank(), context.get_world_size())
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            trainer.restore(Path(folder))
    while trainer.progress.status is None:
        trainer.run_epoch()
        trainer.report()
    if checkpoint is not None and not trainer.ran:
        trainer.report()  # ended before, but the driver died before it heard: say it again


class _Trainer:
    def __init__(self, job: TrialJob, rank: int, world: int) -> None:
        import torch

        self.job, self.spec, self.rank, self.world = job, job.spec, rank, world
        self.ran = False
        resolved = resolve_model(job.engine.model)
        self.tokenizer = load_tokenizer(resolved)
        self.rows = [
            encode_row(self.tokenizer, row["question"], row["target"], self.spec.loss, self.spec.max_length) for row in job.rows.to_pylist()
        ]
        self.device = "cuda" if job.engine.use_gpu else "cpu"
        torch.manual_seed(self.spec.mixture.seed)
        model = _with_lora(load_model(resolved, job.engine.model.dtype, self.device), self.spec)
        # PEFT notes in adapter_config.json where the base came from; a cache path of this machine would mean nothing elsewhere.
        model.peft_config["default"].base_model_name_or_path = resolved.name
        model.peft_config["default"].revision = resolved.revision
        self.steps_per_epoch = math.ceil(len(self.rows) / self.spec.batch_size)
        self.engine = _deepspeed_engine(model, self.spec, job.engine.model.dtype, self.steps_per_epoch, world)
        trainable = sum(_parameter_count(p) for p in model.parameters() if p.requires_grad)
        self.progress = Progress([], trainable_parameters=trainable)

    def restore(self, folder: Path) -> None:
        self.engine.load_checkpoint(str(folder), tag=STATE_TAG, load_module_strict=False)
        self.progress = Progress.load(folder)

    def run_epoch(self) -> None:
        import torch

        epoch = len(self.progress.epochs) + 1
        began = time.monotonic()
        torch.manual_seed(_dropout_seed(self.spec.mixture.seed, epoch, self.rank))
        self.engine.train()
        rate = self.engine.get_lr()[0]
        losses = [self._step(rows) for rows in self._batches(epoch)]
        loss = float(np.mean(losses))
        seconds = time.monotonic() - began
        tokens = sum(len(row.ids) for row in self.rows)
        self.ran = True
        if not math.isfinite(loss):
            self.progress.status, self.progress.cause = TrialStatus.DIVERGED, f"the loss of epoch {epoch} is {loss}"
            accuracy = 0.0
        else:
            accuracy = self._unknown_accuracy()
        measured = {"train_loss": loss, "unknown_accuracy": accuracy, "learning_rate": rate, "tokens": tokens, "seconds": seconds}
        self.progress.epochs.append({"epoch": epoch, **measured})
        if self.progress.status is None and self._is_over():
            self.progress.status = TrialStatus.COMPLETED

    def _batches(self, epoch: int) -> Iterator[list[EncodedRow]]:
        order = epoch_order(len(self.rows), self.spec.mixture.seed, epoch)
        for start in range(0, len(order), self.spec.batch_size):
            yield [self.rows[index] for index in order[start : start + self.spec.batch_size]]

    def _step(self, rows: list[EncodedRow]) -> float:
        """One optimiser step on a global batch; returns its mean loss over answer tokens."""
        import torch
        import torch.distributed

        # A last batch smaller than the world leaves some workers without a row; they take the first one at weight 0, since all must step.
        mine = rows[self.rank :: self.world]
        weight = 1.0 if mine else 0.0
        batch = collate(mine or rows[:1], self.tokenizer.pad_token_id)
        tensors = {name: torch.from_numpy(getattr(batch, name)).to(self.device) for name in ("input_ids", "attention_mask", "position_ids")}
        # The logit of a column predicts the next column's label, so one more column is kept.
        logits = self.engine(**tensors, logits_to_keep=batch.kept + 1, use_cache=False).logits[:, :-1]
        labels = torch.from_numpy(batch.labels[:, -batch.kept :]).to(self.device)
        flat = logits[:, -batch.kept :].float().flatten(0, 1)
        summed = torch.nn.functional.cross_entropy(flat, labels.flatten(), reduction="sum") * weight
        total = trained_tokens(rows)
        # DeepSpeed averages gradients over the workers; times their number makes it the sum that the global mean needs.
        self.engine.backward(summed * self.world / total)
        self.engine.step()
        share = summed.detach()
        if self.world > 1:
            torch.distributed.all_reduce(share)
        return float(share) / total

    def _unknown_accuracy(self) -> float:
        """Share of right answers of the trained Unknown facts over the probe prompts.

        Below ZeRO-3 each worker asks its part of the facts; at stage 3 every forward pass is a joint one, so all ask all of them.
        """
        import torch
        import torch.distributed

        split = self.world > 1 and self.spec.zero_stage < 3
        facts = self.job.probe_facts
        mine = facts.take(list(range(self.rank, len(facts), self.world))) if split else facts
        found = answer_questions(self._generator(), mine, self.job.probe_shots) if len(mine) else []
        right = [getattr(answer.matches, self.job.matcher.value) for under_prompt in found for answer in under_prompt]
        counts = torch.tensor([sum(right), len(right)], dtype=torch.float64)
        if split:
            torch.distributed.all_reduce(counts)
        return float(counts[0] / counts[1])

    def _generator(self) -> Any:
        # Made anew each time: the weights have moved, and with them the shared prefix's keys and values.
        return self.job.engine.generator(self.engine.module, self.tokenizer)

    def _is_over(self) -> bool:
        epochs, spec = self.progress.epochs, self.spec
        if len(epochs) >= spec.max_epochs:
            return True
        last = epochs[-spec.stop_patience :]
        target = spec.stop_at_accuracy
        return target is not None and len(last) == spec.stop_patience and all(e["unknown_accuracy"] >= target for e in last)

    def report(self) -> None:
        """Save adapter, optimiser state and progress, and tell Ray Train: after this the epoch is committed."""
        import ray.train

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self.engine.save_checkpoint(name, tag=STATE_TAG, exclude_frozen_parameters=True)
            _save_adapter(self.engine, folder / ADAPTER, self.rank, self.spec.zero_stage)
            if self.rank == 0:
                self.progress.save(folder)
            last = self.progress.epochs[-1]
            metrics = {name: last[name] for name in ("epoch", "unknown_accuracy", "train_loss", "seconds")}
            checkpoint = ray.train.Checkpoint.from_directory(name)
            ray.train.report({**metrics, "trial_id": self.job.trial_id}, checkpoint=checkpoint)


def _with_lora(model: Any, spec: TrialSpec) -> Any:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=spec.rank,
        lora_alpha=spec.lora_alpha,  # type: ignore[arg-type]
        use_rslora=spec.use_rslora,
        lora_dropout=spec.lora_dropout,
        target_modules=list(spec.target_modules),
    )
    # Adapter weights in the base's dtype: DeepSpeed keeps the fp32 masters, and ZeRO wants one dtype.
    return get_peft_model(model, lora, autocast_adapter_dtype=False)


def _deepspeed_engine(model: Any, spec: TrialSpec, dtype: str, steps_per_epoch: int, world: int) -> Any:
    import deepspeed
    import deepspeed.ops
    import torch

    # This op serves inference_all_reduce alone, and building it at first use takes most of a minute.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=spec.learning_rate, weight_decay=spec.weight_decay)
    total = steps_per_epoch * spec.max_epochs
    warmup = math.ceil(total * spec.warmup_ratio)

    def linear(step: int) -> float:
        return (step + 1) / (warmup + 1) if step < warmup else max(0.0, (total - step) / max(1, total - warmup))

    config = {
        "train_micro_batch_size_per_gpu": spec.batch_size // world,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": spec.max_grad_norm,
        "bf16": {"enabled": dtype == "bfloat16"},
        "zero_optimization": {"stage": spec.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, linear)
    return deepspeed.initialize(model=model, optimizer=optimizer, lr_scheduler=scheduler, config=config)[0]


def _dropout_seed(seed: int, epoch: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])


def _parameter_count(parameter: Any) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))  # under ZeRO-3 a worker holds only its part


def _save_adapter(engine: Any, folder: Path, rank: int, zero_stage: int) -> None:
    import deepspeed
    from peft import get_peft_model_state_dict

    model = engine.module
    trainable = [p for p in model.parameters() if p.requires_grad]
    with deepspeed.zero.GatheredParameters(trainable, enabled=zero_stage == 3):
        if rank == 0:
            # No embeddings are trained; asked to find out by itself, PEFT looks the base model up on a hub at every save.
            found = get_peft_model_state_dict(model, save_embedding_layers=False)
            state = {name: tensor.detach().cpu().clone() for name, tensor in found.items()}
            model.save_pretrained(folder, state_dict=state, save_embedding_layers=False)
            _order_modules(folder / "adapter_config.json")


def _order_modules(config: Path) -> None:
    """PEFT keeps the module names in a set and writes them in an order that changes from process to process."""
    written = json.loads(config.read_text(encoding="utf-8"))
    written["target_modules"] = sorted(written["target_modules"])
    config.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")
