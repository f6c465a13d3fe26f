"""From measurements to the saved result: plain JSON, every ratio with the counts and seconds that it was computed from.

implementations
             by name: way, prompts, seconds, prompts_per_s, rounds, tokens_read; or why it was left out
ratios       by peer: kp's prompts_per_s divided by the peer's, over all rounds and in each
agreement    by pair: answers compared and the share of equal ones, facts compared and the share of equal categories (null if the right
             answers are not known); the released way's answers are cut at their first line
references   prefill_tokens_per_s (the better of one process with all threads and, if kp's engine runs in several processes, all of them
             at once), matmul_flops (model_shapes, square)
kp           tokens_per_s, flops, and their share of each reference
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import transformers

from kp import __version__
from kp.bench.flops import model_size, operations
from kp.bench.implementations import Peer, Turn, first_line, total
from kp.bench.options import CategoriseOptions, DType
from kp.bench.questions import Question, categories, have_answers, of_first
from kp.bench.rates import MatmulRate
from kp.bench.subject import Subject
from kp.generation.decoding import Work
from kp.metrics.agreement import agreement
from kp.prompts import PROMPTS_PER_SET
from kp.store.hardware import hardware


@dataclass(frozen=True)
class Facts:
    """What was asked: the questions, how many of them (the first) the released way answers, and the mean length of a whole prompt."""

    questions: Sequence[Question]
    sampled: int
    prompt_tokens: float


@dataclass
class Record:
    """The measurements: one turn per round (None if an implementation had nothing left to do), and every measurement of a reference."""

    turns: dict[Peer, list[Turn | None]]
    left_out: dict[Peer, str]
    prefill: list[float] = field(default_factory=list)
    prefill_in_pool: list[float] = field(default_factory=list)  # of all processes together, if kp's engine runs in several
    matmul: list[MatmulRate] = field(default_factory=list)
    processes: int = 1  # that kp's engine runs in


def outcome(options: CategoriseOptions, subject: Subject, facts: Facts, ways: Mapping[Peer, str], record: Record) -> dict[str, Any]:
    """The result of a benchmark."""
    implementations: dict[str, Any] = {peer.value: _implementation(ways[peer], turns) for peer, turns in record.turns.items()}
    return {
        "bench": "categorise",
        **circumstances(options, subject),
        "asked": {
            "facts": len(facts.questions),
            "prompts": len(facts.questions) * PROMPTS_PER_SET,
            "mean_prompt_tokens": facts.prompt_tokens,
        },
        "implementations": implementations | {peer.value: {"left_out": reason} for peer, reason in record.left_out.items()},
        "ratios": {peer.value: _ratio(record.turns[Peer.KP], turns) for peer, turns in record.turns.items() if peer is not Peer.KP},
        "agreement": _agreements(facts, record.turns),
        **_shares(subject, facts, record),
    }


def circumstances(options: CategoriseOptions, subject: Subject) -> dict[str, Any]:
    """What was measured and where, for a result of any kind."""
    names = ("facts", "rounds", "seed", "max_new_tokens", "batch_size", "released_facts")
    return model_and_machine(subject, options.dtype) | {"settings": {name: getattr(options, name) for name in names}}


def model_and_machine(subject: Subject, dtype: DType) -> dict[str, Any]:
    """What was measured and where, without settings."""
    device = subject.device
    return {
        "model": {
            "name": subject.name,
            "revision": subject.revision,
            "parameters": sum(weight.numel() for weight in subject.model.parameters()),
            "dtype": dtype.value,
        },
        "machine": hardware()
        | {"device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type, "threads": torch.get_num_threads()},
        "versions": {"kp": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
    }


def compare(questions: Sequence[Question], one: Sequence[str], other: Sequence[str]) -> dict[str, Any]:
    """How far two lists of answers to `chats(questions)` agree."""
    answers = agreement(one, other)
    result: dict[str, Any] = {"answers": answers.n, "equal_answers": answers.share, "facts": None, "equal_categories": None}
    if have_answers(questions):
        of_facts = agreement(categories(questions, one), categories(questions, other))
        result |= {"facts": of_facts.n, "equal_categories": of_facts.share}
    return result


def _implementation(way: str, turns: Sequence[Turn | None]) -> dict[str, Any]:
    taken = [turn for turn in turns if turn]
    prompts, seconds = sum(len(turn.texts) for turn in taken), sum(turn.seconds for turn in taken)
    works = [turn.work for turn in taken if turn.work]
    return {
        "way": way,
        "prompts": prompts,
        "seconds": seconds,
        "prompts_per_s": prompts / seconds,
        "rounds": [{"prompts": len(turn.texts), "seconds": turn.seconds} if turn else None for turn in turns],
        "tokens_read": _tokens_read(total(works), prompts) if works else None,
    }


def _tokens_read(work: Work, prompts: int) -> dict[str, Any]:
    return asdict(work) | {"total": work.tokens, "per_prompt": work.tokens / prompts}


def _ratio(kp_turns: Sequence[Turn | None], peer_turns: Sequence[Turn | None]) -> dict[str, Any]:
    rounds = [_rate([kp]) / _rate([peer]) if kp and peer else None for kp, peer in zip(kp_turns, peer_turns, strict=True)]
    return {"all": _rate(kp_turns) / _rate(peer_turns), "rounds": rounds}


def _rate(turns: Sequence[Turn | None]) -> float:
    taken = [turn for turn in turns if turn]
    return sum(len(turn.texts) for turn in taken) / sum(turn.seconds for turn in taken)


def _agreements(facts: Facts, turns: Mapping[Peer, Sequence[Turn | None]]) -> dict[str, Any]:
    """The agreement of each pair on the facts that both were asked."""
    answers = {Peer.RELEASED: [first_line(text) for turn in turns[Peer.RELEASED] if turn for text in turn.texts]}
    answers |= {peer: taken[0].texts for peer, taken in turns.items() if peer is not Peer.RELEASED and taken[0]}
    sampled = facts.questions[: facts.sampled]
    of_all = [peer for peer in answers if peer not in (Peer.RELEASED, Peer.CONTINUOUS)]
    of_sample = answers | {peer: of_first(answers[peer], facts.sampled) for peer in of_all}
    found = {"kp/released": compare(sampled, of_sample[Peer.KP], of_sample[Peer.RELEASED])}
    if Peer.CONTINUOUS in answers:
        count = len(answers[Peer.CONTINUOUS]) // PROMPTS_PER_SET
        found["kp/continuous"] = compare(facts.questions[:count], of_first(answers[Peer.KP], count), answers[Peer.CONTINUOUS])
    if Peer.VLLM in answers:
        found["kp/vllm"] = compare(facts.questions, answers[Peer.KP], answers[Peer.VLLM])
        found["vllm/released"] = compare(sampled, of_sample[Peer.VLLM], of_sample[Peer.RELEASED])
    return found


def _shares(subject: Subject, facts: Facts, record: Record) -> dict[str, Any]:
    taken = [turn for turn in record.turns[Peer.KP] if turn]
    work, seconds = total([turn.work for turn in taken if turn.work]), sum(turn.seconds for turn in taken)
    prompts = sum(len(turn.texts) for turn in taken)
    prefixes = PROMPTS_PER_SET * record.processes * len(taken) if work.prefix_tokens else 0
    flops = operations(model_size(subject.model), work, prompts, prefixes, facts.prompt_tokens) / seconds
    prefill = max(statistics.median(rates) for rates in (record.prefill, record.prefill_in_pool) if rates)
    shapes, square = max(rate.shapes for rate in record.matmul), max(rate.square for rate in record.matmul)
    return {
        "references": {
            "prefill_tokens_per_s": prefill,
            "prefill_measured": record.prefill,
            "prefill_measured_in_pool": record.prefill_in_pool,
            "matmul_flops": {"model_shapes": shapes, "square": square},
        },
        "kp": {
            "tokens_per_s": work.tokens / seconds,
            "share_of_prefill": work.tokens / seconds / prefill,
            "flops": flops,
            "share_of_matmul": {"model_shapes": flops / shapes, "square": flops / square},
        },
    }
