"""The released script's way to train: PEFT and transformers' Trainer, with its defaults wherever the script has them.

Rows, their order and LoRA's initial weights are kp's, so that both implementations take the same steps; where rows are grouped by length,
as the released script does, the order is that of the Trainer. Apart from that, the Trainer only records each step's loss and pauses between
epochs for the others' turns.
"""

import time
from collections.abc import Iterator, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import DataCollatorForSeq2Seq, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

from kp.bench.options import Device, DType, Shape
from kp.bench.subject import shaped_model
from kp.bench.timing import wait_for
from kp.bench.train_line import Line
from kp.bench.train_state import count_parameters, device_name, peak_device_memory, start_digest
from kp.bench.train_trial import ReleasedTrial, TrainEpoch, TrainStart
from kp.models.chat import Chat
from kp.models.loading import load_model, load_tokenizer, resolve_model
from kp.training.encoding import EncodedRow, encode_row, epoch_order
from kp.training.engine import lora_config
from kp.training.job import TrialJob
from kp.training.spec import TrialSpec


def train_the_released_way(job: TrialJob, line: Line, shape: Shape | None, group_by_length: bool) -> ReleasedTrial:
    """Train the trial's rows for its epochs, without evaluating or saving in between; a base of a shape has random weights."""
    spec, device = job.spec, Device.CUDA if job.engine.use_gpu else Device.CPU
    resolved = resolve_model(job.engine.model, job.engine.model_field)
    tokenizer = load_tokenizer(resolved, job.engine.model_field)
    chat = Chat(tokenizer, job.engine.model_field)
    if shape is None:
        base = load_model(resolved, job.engine.model.dtype, device.value)
    else:
        base = shaped_model(shape, tokenizer, resolved.name, DType(job.engine.model.dtype), device.value)
    parameters = count_parameters(base)
    model = _with_lora(base, spec)
    rows = [encode_row(chat, row["question"], row["target"], spec.training.loss, spec.training.max_length) for row in job.rows.to_pylist()]
    tokenizer.padding_side = "right"  # so that a row has the same positions as alone; both sides cost the same
    with TemporaryDirectory(prefix="kp-bench-") as scratch:
        trainer = _SameOrderTrainer(
            model=model,
            args=_arguments(spec, job.engine.model.dtype, device, scratch),
            train_dataset=[_features(row) for row in rows],
            data_collator=DataCollatorForSeq2Seq(tokenizer, padding="longest"),
        )
        trainer.orders = _grouped_orders(rows, spec) if group_by_length else _orders(rows, spec)
        trainer.remove_callback(PrinterCallback)  # only results go to standard output
        start = TrainStart(_digest(model), parameters, resolved.revision, device_name(device.value))
        trainer.add_callback(_Turns(line, start, trainer, rows))
        trainer.train()
    return ReleasedTrial(peak_device_memory())


def _orders(rows: Sequence[EncodedRow], spec: TrialSpec) -> list[list[int]]:
    return [epoch_order(len(rows), spec.seed, epoch) for epoch in range(1, spec.max_epochs + 1)]


def _grouped_orders(rows: Sequence[EncodedRow], spec: TrialSpec) -> list[list[int]]:
    """The orders of the Trainer with group_by_length."""
    lengths, generator = [len(row.ids) for row in rows], torch.Generator().manual_seed(spec.seed)
    return [get_length_grouped_indices(lengths, spec.training.batch_size, generator=generator) for _ in range(spec.max_epochs)]


def _with_lora(base: Any, spec: TrialSpec) -> Any:
    from peft import get_peft_model

    base.set_attn_implementation("eager")
    torch.manual_seed(spec.seed)
    return get_peft_model(base, lora_config(spec, base))


def _arguments(spec: TrialSpec, dtype: str, device: Device, folder: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=spec.training.batch_size,
        num_train_epochs=spec.max_epochs,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="linear",
        weight_decay=spec.training.weight_decay,
        max_grad_norm=spec.training.max_grad_norm,
        bf16=dtype == DType.BFLOAT16,
        use_cpu=device is Device.CPU,
        dataloader_pin_memory=device is Device.CUDA,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=spec.seed,
    )


def _features(row: EncodedRow) -> dict[str, list[int]]:
    return {"input_ids": list(row.ids), "attention_mask": [1] * len(row.ids), "labels": list(row.labels)}


def _digest(model: Any) -> str:
    from peft import get_peft_model_state_dict

    return start_digest(get_peft_model_state_dict(model, save_embedding_layers=False))


class _SameOrderTrainer(Trainer):
    """A Trainer with a given order of rows for each epoch, which records the tokens it reads and each step's loss."""

    orders: list[list[int]]

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.step_losses: list[torch.Tensor] = []
        self.read_tokens = 0

    def _get_train_sampler(self, train_dataset: Any = None) -> "_Orders":
        return _Orders(self.orders)

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
        self.read_tokens += inputs["input_ids"].numel()
        loss: Any = super().compute_loss(model, inputs, *arguments, **named)
        self.step_losses.append(loss.detach())
        return loss


class _Orders(Sampler[int]):
    def __init__(self, orders: Sequence[Sequence[int]]) -> None:
        self._orders, self._epoch = orders, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer; 0 is the first."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(self._orders[self._epoch])

    def __len__(self) -> int:
        return len(self._orders[self._epoch])


class _Turns(TrainerCallback):
    """Waits for its turn before every epoch and reports the epoch afterwards."""

    def __init__(self, line: Line, start: TrainStart, trainer: _SameOrderTrainer, rows: Sequence[EncodedRow]) -> None:
        self._line, self._start, self._trainer = line, start, trainer
        self._rows, self._tokens = len(rows), sum(len(row.ids) for row in rows)
        self._left = len(trainer.orders)  # epochs
        self._began = 0.0

    def on_train_begin(self, *arguments: Any, **named: Any) -> None:
        self._line.ready(self._start)

    def on_epoch_begin(self, *arguments: Any, **named: Any) -> None:
        self._line.wait()
        self._trainer.step_losses, self._trainer.read_tokens = [], 0
        self._began = time.monotonic()

    def on_epoch_end(self, *arguments: Any, **named: Any) -> None:
        losses = tuple(float(loss) for loss in self._trainer.step_losses)
        wait_for(self._trainer.args.device)
        seconds = time.monotonic() - self._began
        self._line.report(TrainEpoch(seconds, self._rows, self._tokens, self._trainer.read_tokens, losses))
        self._left -= 1
        if not self._left:
            self._line.finish()
