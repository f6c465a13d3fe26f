"""Whether the engine's speed changes answers: the engine compared with plain generation, and bfloat16 with float32.

In float32 the engine's answers must equal those of `model.generate` on one unbatched prompt with nothing shared, string for string. In
bfloat16 the two round differently and neither is right. There the question is how many answers and categories the dtype changes, which is
part of the noise with which every shift of a study is compared.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kp.bench.implementations import plain_answer
from kp.bench.options import CategoriseOptions, DType
from kp.bench.outcome import circumstances, compare
from kp.bench.questions import Question, categories, chats, have_answers, load_questions
from kp.bench.subject import load_subject
from kp.errors import UserError
from kp.generation.hf import HFGenerator
from kp.metrics.agreement import agreement

_DIFFERENCES_KEPT = 20
_SAID_EVERY = 50


@dataclass(frozen=True)
class _Answers:
    """The engine's answers to all chats in one dtype, and plain generation's answers to some of them, by index of the chat."""

    engine: list[str]
    plain: dict[int, str]
    circumstances: dict[str, Any]


def check_exactness(options: CategoriseOptions) -> dict[str, Any]:
    """Compare the float32 answers with plain generation on `options.exact` prompts spread over all; if `options.dtype` is bfloat16, also
    compare the engine's answers in bfloat16 with those in float32."""
    questions = load_questions(options)
    number = len(chats(questions))
    if options.exact > number:
        raise UserError(f"{options.exact} prompts, {options.facts} facts make {number}", field="exact")
    # In equal steps, so that all prompts of the set and questions of every length are included.
    places = [number * place // options.exact for place in range(options.exact)]
    float32 = _answered(options, DType.FLOAT32, questions, places)
    result = {
        "bench": "categorise, exactness",
        **float32.circumstances,
        "asked": {"facts": len(questions), "prompts": number},
        "float32": _against_plain(float32),
    }
    if options.dtype is DType.BFLOAT16:
        bfloat16 = _answered(options, DType.BFLOAT16, questions, [])
        result["bfloat16"] = compare(questions, float32.engine, bfloat16.engine) | {
            "category_changes": _changes(questions, float32.engine, bfloat16.engine)
        }
    return result


def _answered(options: CategoriseOptions, dtype: DType, questions: Sequence[Question], places: Sequence[int]) -> _Answers:
    subject, asked = load_subject(options, dtype), chats(questions)
    print(f"kp bench: {len(asked)} prompts in {dtype}, {len(places)} of them also the plain way", file=sys.stderr, flush=True)
    made = HFGenerator(subject.model, subject.tokenizer, options.max_new_tokens, batch_size=options.batch_size).generate(asked)
    plain = {}
    for count, place in enumerate(places, start=1):
        plain[place] = plain_answer(subject, asked[place], options.max_new_tokens)
        if count % _SAID_EVERY == 0:
            print(f"kp bench: {count} of {len(places)} the plain way", file=sys.stderr, flush=True)
    return _Answers([answer.text for answer in made], plain, circumstances(replace(options, dtype=dtype), subject))


def _against_plain(answers: _Answers) -> dict[str, Any]:
    pairs = {place: (answers.engine[place], plain) for place, plain in answers.plain.items()}
    found = agreement(*map(list, zip(*pairs.values(), strict=True)))
    different = [{"prompt": place, "engine": ours, "plain": plain} for place, (ours, plain) in pairs.items() if ours != plain]
    return {"prompts": found.n, "equal": found.equal, "equal_answers": found.share, "differences": different[:_DIFFERENCES_KEPT]}


def _changes(questions: Sequence[Question], before: Sequence[str], after: Sequence[str]) -> dict[str, int] | None:
    """Number of facts per pair of categories, unchanged ones included; None if the right answers are not known."""
    if not have_answers(questions):
        return None
    moves = Counter(zip(categories(questions, before), categories(questions, after), strict=True))
    return {f"{old} -> {new}": count for (old, new), count in sorted(moves.items())}
