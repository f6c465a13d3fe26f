"""`kp bench evaluate`: how fast adapters are evaluated by kp's actors, and by one process per adapter.

The two take turns on adapters of each kind, and their order alternates, because the speed of a shared machine changes from minute to
minute. Whether both give the same answers is part of the result. For scale, the released script's way answers some of the prompts.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kp.bench.evaluate_implementations import kp_evaluates, peer_evaluates
from kp.bench.evaluate_outcome import Record, outcome
from kp.bench.evaluate_table import markdown, text
from kp.bench.evaluate_work import SHOT_SET, Kind, Line, make_lines
from kp.bench.implementations import ReleasedImplementation
from kp.bench.options import DType, EvaluateOptions
from kp.bench.output import log, save_result, validate_folder
from kp.bench.questions import draw_builtin
from kp.bench.subject import Subject, chosen_device, load_subject
from kp.prompts import Messages, builtin_prompts, messages
from kp.store.hardware import MOST_CPU_GENERATORS

_PREFILL_PROMPTS = {"cpu": 24, "cuda": 2048}  # enough for passes of the best size


def run_evaluate(options: EvaluateOptions) -> int:
    """Run the benchmark, print its table, and write the requested files; returns the exit code, 1 if float32 answers differ."""
    validate_folder(options.json)
    torch.set_num_threads(options.cpu_threads)
    result = benchmark(options)
    save_result(result, text, markdown, options.json)
    equal = all(line["equal_answers"] == 1.0 for line in result["lines"].values())
    return 1 if options.dtype is DType.FLOAT32 and not equal else 0


def benchmark(options: EvaluateOptions) -> dict[str, Any]:
    """The result of a benchmark, as `kp.bench.evaluate_outcome` describes it."""
    questions = draw_builtin(options.facts, options.seed)
    subject = load_subject(options, options.dtype)
    chats = [messages(shots, question.text) for shots in builtin_prompts(SHOT_SET) for question in questions]
    with tempfile.TemporaryDirectory(prefix="kp-bench-") as folder:
        lines = make_lines(options, subject.model, questions, Path(folder))
        record = Record(processes(options), {line.kind: [] for line in lines}, {line.kind: [] for line in lines})
        for number in range(options.rounds):
            _round(options, number, lines, subject.chat.prompt_ids(chats), record)
        _released(options, subject, lines, _spread(chats, options.released_prompts), record)
        return outcome(options, subject, lines, record)


def processes(options: EvaluateOptions) -> int:
    """Processes at once: as many as a study on this machine has actors."""
    if chosen_device(options) != "cpu":
        return 1
    return options.processes or min(options.cpu_threads, MOST_CPU_GENERATORS)


def _round(options: EvaluateOptions, number: int, lines: Sequence[Line], token_ids: Sequence[list[int]], record: Record) -> None:
    sample = _spread(token_ids, _PREFILL_PROMPTS[torch.device(chosen_device(options)).type])
    for place, line in enumerate(lines):

        def kp(line: Line = line) -> None:
            turn, prefill = kp_evaluates(options, line, record.processes, sample if line.kind is Kind.ALL else [])
            record.kp[line.kind].append(turn)
            record.prefill += [prefill] if prefill else []

        def peer(line: Line = line) -> None:
            record.peer[line.kind].append(peer_evaluates(options, line, record.processes))

        for turn in (kp, peer) if (number + place) % 2 == 0 else (peer, kp):
            turn()
        seconds = record.kp[line.kind][-1].seconds, record.peer[line.kind][-1].seconds
        log(f"round {number + 1}: layers {line.kind}: kp {seconds[0]:.1f} s, one process per adapter {seconds[1]:.1f} s")


def _released(options: EvaluateOptions, subject: Subject, lines: Sequence[Line], sample: Sequence[Messages], record: Record) -> None:
    """The released way with the first adapter of all layers; `subject` has that adapter from here on."""
    from peft import PeftModel

    adapter = lines[0].evaluation.measurings[0].model.adapter
    adapted: Any = PeftModel.from_pretrained(subject.model, str(adapter), autocast_adapter_dtype=False).eval()
    released = ReleasedImplementation(
        Subject(subject.name, subject.revision, subject.path, adapted, subject.tokenizer), options.max_new_tokens
    )
    released.warm_up(sample)
    record.released = released.answer(sample)
    log(f"the released way: {len(sample)} prompts in {record.released.seconds:.1f} s")


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the items, in equal steps."""
    count = min(count, len(items))
    return [items[len(items) * place // count] for place in range(count)]
