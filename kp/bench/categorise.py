"""`kp bench categorise`: which implementation answers the questions of a categorisation fastest.

The speed of a shared or thermally limited machine changes from minute to minute. So each implementation takes a turn in every round, the
order rotates from round to round, and the references (matrix products, the model's own prefill) are measured within the rounds, too. Only
one implementation computes at a time.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import torch

from kp.bench.continuous import ContinuousImplementation, chats_asked
from kp.bench.exactness import check_exactness
from kp.bench.implementations import RELEASED_BATCH, Implementation, KpImplementation, Peer, ReleasedImplementation
from kp.bench.options import VLLM_PYTHON, CategoriseOptions
from kp.bench.outcome import Facts, Record, outcome
from kp.bench.output import log, save_result, validate_folder
from kp.bench.pool import PoolImplementation
from kp.bench.questions import chats, load_questions
from kp.bench.rates import Prefill, matmul_rate
from kp.bench.subject import Subject, chosen_device, load_subject
from kp.bench.table import markdown, text
from kp.bench.vllm_implementation import VLLMImplementation
from kp.prompts import Messages
from kp.store.hardware import MOST_CPU_GENERATORS

_WARM_UP = 200  # chats, from all prompts
_COMPARED = 10  # chats whose tokens are compared with those of another environment


def run_categorise(options: CategoriseOptions) -> int:
    """Run the benchmark, print its table, and write the requested files; returns the exit code."""
    validate_folder(options.json)
    torch.set_num_threads(options.cpu_threads)
    result = check_exactness(options) if options.exact else benchmark(options)
    save_result(result, text, markdown, options.json)
    return 0


def benchmark(options: CategoriseOptions) -> dict[str, Any]:
    """The result of a benchmark, as `kp.bench.outcome` describes it."""
    questions = load_questions(options)
    subject = load_subject(options, options.dtype)
    asked, sampled = chats(questions), chats(questions[: options.released_facts])
    token_ids = _token_ids(subject, asked)
    portions = {peer: [asked] * options.rounds for peer in Peer} | {Peer.RELEASED: _portions(sampled, options.rounds)}
    portions[Peer.CONTINUOUS] = [chats_asked(asked, options.continuous_facts, options.facts)] * options.rounds
    with _implementations(options, subject, asked, token_ids) as (implementations, left_out):
        for implementation in implementations:
            log(f"{implementation.peer} warms up")
            implementation.warm_up(asked[:: max(1, len(asked) // _WARM_UP)])
        record = Record({implementation.peer: [] for implementation in implementations}, left_out, processes=processes(options))
        prefill, pools = Prefill(subject, token_ids), [entry for entry in implementations if isinstance(entry, PoolImplementation)]

        def measure() -> None:
            record.prefill.append(prefill.measure())
            record.prefill_in_pool += [pool.prefill() for pool in pools]

        for number in range(options.rounds):
            record.matmul.append(matmul_rate(subject.model))
            measure()
            _round(number, implementations, portions, record)
            measure()
    facts = Facts(questions, min(options.released_facts, len(questions)), sum(map(len, token_ids)) / len(token_ids))
    ways = {implementation.peer: implementation.way for implementation in implementations}
    return outcome(options, subject, facts, ways, record)


def processes(options: CategoriseOptions) -> int:
    """Processes of kp's engine: as many as a study on this machine has generators."""
    if chosen_device(options) != "cpu":
        return 1
    return options.processes or min(options.cpu_threads, MOST_CPU_GENERATORS)


@contextmanager
def _implementations(
    options: CategoriseOptions, subject: Subject, asked: Sequence[Messages], token_ids: Sequence[list[int]]
) -> Iterator[tuple[list[Implementation], dict[Peer, str]]]:
    """The implementations that take part, and why others do not."""
    with ExitStack() as stack:
        count = processes(options)
        pooled = stack.enter_context(PoolImplementation(options, count, token_ids)) if count > 1 else None
        kp = pooled or KpImplementation(subject, options.max_new_tokens, options.batch_size)
        implementations: list[Implementation] = [kp, ReleasedImplementation(subject, options.max_new_tokens)]
        left_out: dict[Peer, str] = {}
        if options.continuous_facts:
            implementations.append(ContinuousImplementation(subject, options.max_new_tokens, options.batch_size))
        else:
            left_out[Peer.CONTINUOUS] = "no --continuous-facts are asked for"
        if subject.path is None:
            left_out[Peer.VLLM] = "it loads its weights from a folder, and a shape has none"
        elif options.vllm_python is None:
            left_out[Peer.VLLM] = f"no --vllm-python and no ${VLLM_PYTHON} name an interpreter that has it"
        else:
            log("vLLM starts")
            implementations.append(stack.enter_context(VLLMImplementation(options.vllm_python, subject, options, asked[:_COMPARED])))
        yield implementations, left_out


def _round(number: int, implementations: Sequence[Implementation], portions: dict[Peer, list[list[Messages]]], record: Record) -> None:
    first = number % len(implementations)
    for implementation in [*implementations[first:], *implementations[:first]]:
        portion = portions[implementation.peer][number]
        turn = implementation.answer(portion) if portion else None
        record.turns[implementation.peer].append(turn)
        if turn:
            rate = len(portion) / turn.seconds
            log(f"round {number + 1}: {implementation.peer} {len(portion)} prompts in {turn.seconds:.1f} s, {rate:.1f} prompts/s")


def _portions(sampled: list[Messages], rounds: int) -> list[list[Messages]]:
    """Whole batches of the released way, split over the rounds in order."""
    batches = -(-len(sampled) // RELEASED_BATCH)
    ends = [batches * number // rounds * RELEASED_BATCH for number in range(rounds + 1)]
    return [sampled[start:end] for start, end in pairwise(ends)]


def _token_ids(subject: Subject, asked: Sequence[Messages]) -> list[list[int]]:
    return subject.chat.prompt_ids(asked)
