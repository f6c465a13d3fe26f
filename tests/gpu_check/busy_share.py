"""How much of the time of 20 decode passes the GPU computes: kernels that overlap count once, and the host's time between passes is part of
the wall time.

The passes run twice, without the profiler for the wall time and with it for the kernels, because recording makes launches slower.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from kp.bench.options import CategoriseOptions, DType, Shape
from kp.bench.questions import chats, draw_builtin
from kp.bench.subject import load_subject
from kp.bench.timing import wait_for
from kp.generation.hf import HFGenerator
from kp.prompts import PROMPTS_PER_SET
from kp.store.steps import covered_seconds
from tests.gpu_check.steps import PASSES

NEW_TOKENS = 32
_SETTLING = 2  # decode passes before those that are measured


@dataclass(frozen=True)
class BusyShare:
    """Of PASSES decode passes: seconds without and with the profiler, seconds in which the device computed, and its kernels and copies."""

    device: str
    rows: int
    passes: int
    seconds: float
    profiled_seconds: float
    busy_seconds: float
    kernels: int

    @property
    def share(self) -> float:
        """Of the wall time without the profiler."""
        return self.busy_seconds / self.seconds


class PassesEndedError(Exception):
    """Raised out of a generation when its passes have been measured: the rest of the answers is of no use."""


class Window:
    """Calls `begin` before the first of PASSES decode passes and `end` before the one after the last, which ends the generation.

    A pass reads one token of each row if it only decodes, and more if it also reads questions.
    """

    def __init__(self, rows: int, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self.passes = 0
        self._rows, self._begin, self._end, self._decoded = rows, begin, end, 0

    def before_pass(self, model: torch.nn.Module, arguments: Any, named: dict[str, Any]) -> None:
        """A hook of the model, called before each forward pass."""
        if named["input_ids"].shape[1] > self._rows:
            self._decoded = self.passes = 0
            return
        self._decoded += 1
        if self._decoded <= _SETTLING:
            return
        if self._decoded == _SETTLING + 1:
            self._begin()
        if self.passes == PASSES:
            self._end()
            raise PassesEndedError
        self.passes += 1


def device_spans(events: Sequence[Any], device: torch.device) -> list[tuple[float, float]]:
    """Begin and end, in seconds, of everything that the profiler saw compute on the device; on a CPU these are operators."""
    wanted = torch.autograd.DeviceType.CUDA if device.type == "cuda" else torch.autograd.DeviceType.CPU
    on_device = (event for event in events if event.device_type == wanted)
    return [(event.time_range.start / 1e6, event.time_range.end / 1e6) for event in on_device]


def measure(options: CategoriseOptions) -> BusyShare:
    """Decode as many rows at once as `options.batch_size`; raises RuntimeError if no PASSES passes in a row only decode."""
    subject = load_subject(options, options.dtype)
    asked = chats(draw_builtin(-(-options.batch_size // PROMPTS_PER_SET), options.seed))[: options.batch_size]
    generator = HFGenerator(subject.model, subject.tokenizer, NEW_TOKENS, stop_at_newline=False, batch_size=options.batch_size)
    generator.generate(asked)  # measures memory, and reads the shared prompts
    activity = ProfilerActivity.CUDA if subject.device.type == "cuda" else ProfilerActivity.CPU
    times: list[float] = []

    def note() -> None:
        wait_for(subject.device)
        times.append(time.perf_counter())

    def run(begin: Callable[[], None], end: Callable[[], None]) -> None:
        window = Window(options.batch_size, begin, end)
        hook = subject.model.register_forward_pre_hook(window.before_pass, with_kwargs=True)
        try:
            generator.generate(asked)
        except PassesEndedError:
            return
        finally:
            hook.remove()
        raise RuntimeError(f"{window.passes} passes only decoded, expected {PASSES} in a row")

    run(note, note)
    profiler = profile(activities=[activity])

    def begin() -> None:
        profiler.start()
        note()

    def end() -> None:
        note()
        profiler.stop()

    run(begin, end)
    spans = device_spans(profiler.events() or [], subject.device)
    name = torch.cuda.get_device_name() if subject.device.type == "cuda" else "cpu"
    return BusyShare(name, len(asked), PASSES, times[1] - times[0], times[3] - times[2], covered_seconds(spans), len(spans))


def main(arguments: list[str] | None = None) -> int:
    """Run the step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", type=Shape, default=Shape.LLAMA_3_1_8B)
    parser.add_argument("--dtype", type=DType, default=DType.BFLOAT16)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--json", type=Path, required=True)
    asked = parser.parse_args(arguments)
    found = measure(CategoriseOptions(device=asked.device, shape=asked.shape, dtype=asked.dtype, batch_size=asked.rows))
    asked.json.write_text(json.dumps(asdict(found) | {"share": found.share}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
