"""From measurements to the saved result: plain JSON, every ratio with the counts and seconds that it was computed from.

lines        by kind of adapter:
             first_layer, the first one that the adapters change
             kp and peer: way, adapters, prompts, seconds (of all rounds, from the start of the processes on), rounds, start_seconds (until
             a process is ready, a mean), prompts_per_s and seconds_per_adapter (both without the start of processes), tokens_read
             further_adapter_seconds: what one more adapter after the first costs kp, without any start
             kept_bytes: what an actor of kp keeps of the lower layers
             ratio: the peer's seconds divided by kp's; answering_ratio: the same without the start of processes
             equal_answers: the share of answers that are the same in both ways
             share_of_prefill: tokens that kp's actors read per second of answering, divided by the prefill rate; a token that passes only
             some of the layers counts as their share
             of_all_layers: kp's seconds for a further adapter, divided by those for one that changes all layers
released     prompts_per_s, of one adapter of all layers, and how much faster kp answers
references   prefill_tokens_per_s: the model's own, in as many processes as kp has
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from kp.bench import implementations
from kp.bench.evaluate_implementations import KP, PEER, Turn
from kp.bench.evaluate_work import Kind, Line
from kp.bench.implementations import total
from kp.bench.options import EvaluateOptions
from kp.bench.outcome import model_and_machine
from kp.bench.subject import Subject
from kp.generation.decoding import Work
from kp.inference.answering import sorted_answers
from kp.metrics.agreement import agreement
from kp.prompts import PROMPTS_PER_SET

_SETTINGS = ("adapters", "facts", "rounds", "rank", "seed", "max_new_tokens", "batch_size", "released_prompts")


@dataclass
class Record:
    """The measurements: a turn per round for each kind of adapter and each way."""

    processes: int
    kp: dict[Kind, list[Turn]]
    peer: dict[Kind, list[Turn]]
    prefill: list[float] = field(default_factory=list)  # tokens per second
    released: implementations.Turn | None = None


def outcome(options: EvaluateOptions, subject: Subject, lines: Sequence[Line], record: Record) -> dict[str, Any]:
    """The result of a benchmark."""
    layers = subject.model.config.get_text_config().num_hidden_layers
    prefill = statistics.median(record.prefill)
    found = {line.kind: _line(line, record, layers, prefill) for line in lines}
    for entry in found.values():
        entry["of_all_layers"] = entry["further_adapter_seconds"] / found[Kind.ALL]["further_adapter_seconds"]
    assert record.released is not None, "it has had its turn"
    prompts, seconds = len(record.released.texts), record.released.seconds
    rate = prompts / seconds
    return {
        "bench": "evaluate",
        **model_and_machine(subject, options.dtype),
        "settings": {name: getattr(options, name) for name in _SETTINGS} | {"processes": record.processes},
        "asked": {"facts": options.facts, "adapters": options.adapters, "prompts": options.facts * PROMPTS_PER_SET},
        "lines": {kind.value: entry for kind, entry in found.items()},
        "released": {
            "prompts": prompts,
            "seconds": seconds,
            "prompts_per_s": rate,
            "kp_is_faster": found[Kind.ALL]["kp"]["prompts_per_s"] / rate,
        },
        "references": {"prefill_tokens_per_s": prefill, "prefill_measured": record.prefill},
    }


def _line(line: Line, record: Record, layers: int, prefill: float) -> dict[str, Any]:
    kp, peer = record.kp[line.kind], record.peer[line.kind]
    seconds = [sum(turn.seconds for turn in turns) for turns in (kp, peer)]
    busy = [sum(turn.busy for turn in turns) for turns in (kp, peer)]
    work = total([chunk.work for turn in kp for chunk in turn.chunks])
    rate = full_tokens(work, line.first_layer / layers) / (busy[0] / record.processes)
    return {
        "first_layer": line.first_layer,
        "kp": _way(KP, kp, record.processes),
        "peer": _way(PEER, peer, record.processes),
        "further_adapter_seconds": statistics.fmean(_further_seconds(turn, line) for turn in kp) / record.processes,
        "kept_bytes": max(turn.kept_bytes for turn in kp),
        "ratio": {"all": seconds[1] / seconds[0], "rounds": [other.seconds / ours.seconds for ours, other in zip(kp, peer, strict=True)]},
        "answering_ratio": busy[1] / busy[0],
        "equal_answers": agreement(_answers(kp[0]), _answers(peer[0])).share,
        "share_of_prefill": rate / prefill,
    }


def full_tokens(work: Work, lower: float) -> float:
    """Tokens read, as passes of the whole model, of which the layers below the first adapted one are the share `lower`."""
    return work.tokens * (1 - lower) + work.lower_tokens * lower


def _way(way: str, turns: Sequence[Turn], processes: int) -> dict[str, Any]:
    prompts = sum(len(chunk.answers) for turn in turns for chunk in turn.chunks)
    adapters = sum(len({chunk.adapter for chunk in turn.chunks}) for turn in turns)
    answering = sum(turn.busy for turn in turns) / processes
    work = total([chunk.work for turn in turns for chunk in turn.chunks])
    return {
        "way": way,
        "adapters": adapters,
        "prompts": prompts,
        "seconds": sum(turn.seconds for turn in turns),
        "rounds": [turn.seconds for turn in turns],
        "start_seconds": statistics.fmean(turn.start_seconds for turn in turns),
        "prompts_per_s": prompts / answering,
        "seconds_per_adapter": answering / adapters,
        "tokens_read": asdict(work) | {"total": work.tokens, "per_prompt": work.tokens / prompts},
    }


def _further_seconds(turn: Turn, line: Line) -> float:
    """Mean seconds of the adapters after the first one; of the only one if there is one."""
    spent: dict[str, float] = {}
    for chunk in turn.chunks:
        spent[chunk.adapter] = spent.get(chunk.adapter, 0.0) + chunk.seconds
    in_order = [spent[measuring.identity] for measuring in line.evaluation.measurings]
    return statistics.fmean(in_order[1:] or in_order)


def _answers(turn: Turn) -> list[str]:
    """All answers, by adapter and question."""
    tables: dict[str, list[pa.Table]] = {}
    for chunk in turn.chunks:
        tables.setdefault(chunk.adapter, []).append(chunk.answers)
    by_adapter = (sorted_answers(pa.concat_tables(tables[adapter])) for adapter in sorted(tables))
    return [answer for table in by_adapter for answer in table["answer"].to_pylist()]
