"""Raw answers of a base and an adapter that nobody gave, for tests of what compares them."""

from collections.abc import Mapping, Sequence

import polars as pl

from kp import schema
from kp.metrics.categories import categorise
from kp.metrics.compared_answers import ComparedAnswers
from kp.metrics.outcomes import fact_roles, outcome_table
from kp.vocabulary import BASE, Matcher
from tests.made_up_study import frame_of

Said = Mapping[str, str]  # fact -> what is answered under every prompt; right if it is the fact's object


def facts_of(objects: Mapping[str, str], domains: Mapping[str, str] | None = None, relation: str = "r") -> pl.DataFrame:
    rows = [
        {
            "fact_id": fact_id,
            "subject": f"subject {fact_id}",
            "relation": f"{relation} of {(domains or {}).get(fact_id, 'none')}",
            "object": name,
            "question": f"{fact_id}?",
            "answers": [name],
            "domain": (domains or {}).get(fact_id),
            "paraphrases": [],
            "source": "test",
        }
        for fact_id, name in objects.items()
    ]
    return frame_of(rows, schema.FACTS)


def answers_of(model: str, shot_set: str, said: Said, facts: pl.DataFrame, prompts: int) -> pl.DataFrame:
    objects = dict(facts.select("fact_id", "object").iter_rows())
    rows = [
        {
            "fact_id": fact_id,
            "model_id": model,
            "shot_set": shot_set,
            "prompt_index": index,
            "answer": f"Answer: {answer}",
            "finish_reason": "stop",
            "match_strict": answer == objects[fact_id],
            "match_exact": answer == objects[fact_id],
            "match_released": answer == objects[fact_id],
            "refused": "information" in answer,
        }
        for fact_id, answer in said.items()
        for index in range(prompts)
    ]
    return frame_of(rows, schema.ANSWERS)


def compared_of(facts: pl.DataFrame, base: Said, adapter: Said, trained: Sequence[str] = (), prompts: int = 10) -> ComparedAnswers:
    """The base says the same on S0, S1 and S2; the adapter was trained on these facts."""
    of_base = pl.concat([answers_of("base", shot_set, base, facts, prompts) for shot_set in ("S0", "S1", "S2")])
    of_adapter = answers_of("t", "S1", adapter, facts, prompts)
    objects = dict(facts.select("fact_id", "object").iter_rows())
    rows = frame_of(
        [
            {"row": row, "fact_id": fact_id, "role": "unknown", "question": "?", "target": objects[fact_id]}
            for row, fact_id in enumerate(trained)
        ],
        schema.TRAINING_ROWS,
    )
    ids = facts["fact_id"].to_list()
    outcomes = [
        outcome_table(name, answers, categorise(answers), fact_roles(ids, None, taught), Matcher.STRICT)
        for name, answers, taught in ((BASE, of_base, None), ("t", of_adapter, rows))
    ]
    return ComparedAnswers("t", facts, pl.concat(outcomes), of_base, of_adapter, rows, Matcher.STRICT)


def published() -> ComparedAnswers:
    """The moves of 1 UK + 10 HK in the released notebook: 45 rises and 153 falls, with their published numbers of reasons.

    One fact is trained: of the 45 it is one, in whose domain three more rise. Its object is that of two others. 1 + 851 filler facts make
    the adapter say one answer 852 times under the first prompt alone.
    """
    rises, falls, filler = ([f"{letter}{number:04d}" for number in range(count)] for letter, count in (("u", 45), ("k", 153), ("f", 851)))
    objects = {fact_id: f"object {fact_id}" for fact_id in (*rises, *falls, *filler)}
    for fact_id in rises[:3]:
        objects[fact_id] = "target"
    domains = dict.fromkeys((*rises, *falls, *filler), "work") | dict.fromkeys((*rises[:4], *falls[:3]), "place")
    base = dict.fromkeys(rises[4:13], "I found no information") | dict.fromkeys((*rises[:4], *rises[13:]), "a guess")
    base |= {fact_id: objects[fact_id] for fact_id in falls} | dict.fromkeys(filler, "a guess")
    adapter = {fact_id: objects[fact_id] for fact_id in rises}
    adapter |= {fact_id: f"wrong {fact_id}" for fact_id in falls} | {falls[3]: "boom"} | dict.fromkeys(filler, "boom")
    return compared_of(facts_of(objects, domains), base, adapter, trained=rises[:1], prompts=1)
