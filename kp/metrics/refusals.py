"""When an answer declines to answer.

A list of patterns rather than a classifier, so that a reader can see why an answer counts, and a count can be repeated anywhere. Most
patterns require a speaker, or a statement about what can be known: the bare word "information", by which the released code recognises a
refusal, also occurs in "Information theory". A work called "I Don't Know" or "Unknown" is miscounted; that is accepted.
"""

import re

_CANNOT = r"(?:can(?:not| not|'t)|could(?: not|n't)|(?:was|were|am|are|is|'m|'re) (?:not able|unable) to)"
_SEEK = r"(?:find|locate|verify|confirm|determine|identify|answer|provide|give|tell|say|access|recall|retrieve|respond|help|assist|comment)"
_DO_NOT = r"(?:do(?: not|n't)|did(?: not|n't))"
_FACTS = r"(?:information|info|data|details?|records?|knowledge|evidence|answers?|sources?)"
_KIND = r"(?:(?:any|enough|sufficient|specific|reliable|public|publicly|available|credible|definitive|clear|further|more|known|such|the) )*"
_AT_HAND = r"(?:available|found|known|provided|given|listed|on|about|regarding|to (?:say|answer|determine))"
_ASKED = r"(?:who|whom|what|when|where|which|why|whether|if|that|this|the|about|of|any|enough|much|exactly|anything|how (?:to|many|much))"

REFUSAL_PATTERNS: tuple[str, ...] = (
    rf"\b(?:i|we) ?(?:really |currently |also )?{_CANNOT} (?:\w+ly )?(?:be (?:sure|certain)|{_SEEK})\b",
    rf"\b(?:unable|not able) to (?:\w+ly )?{_SEEK}\b",
    r"\b(?:cannot|can't|could not|couldn't) be (?:found|verified|confirmed|determined|identified|answered)\b",
    rf"\b(?:i|we) (?:really |honestly |just )?{_DO_NOT} know(?=\s*(?:$|[.,;:!?]|{_ASKED}\b))",
    rf"\b(?:i|we) (?:currently |really )?{_DO_NOT} (?:have|possess|see|find|recall|remember)(?: access to)? {_KIND}{_FACTS}\b",
    r"\b(?:i|we) (?:currently )?(?:do not|don't) have (?:real-time |direct )?access to\b",
    r"\b(?:i|we) have no (?:idea\b|(?:\w+ )?(?:information|record|records|knowledge|data)\b)",
    r"\b(?:i am|i'm|we are|we're) (?:really |quite )?not (?:\w+ly )?(?:sure|certain|aware of|familiar with)\b",
    r"\b(?:i am|i'm) (?:unsure|uncertain|unaware of|unfamiliar with)\b",
    r"\b(?:i am|i'm) (?:just |only |merely )?an? (?:ai\b|artificial intelligence|(?:large )?language model)",
    r"\bas an? (?:ai\b|artificial intelligence|(?:large )?language model)",
    r"\b(?:i am|i'm) (?:so |very |really )?sorry,? (?:but|i)\b",
    r"^sorry,? (?:but )?(?:i|we)\b (?:can|could|do|did|am|have)",
    r"\bi apologi[sz]e,? (?:but|i|for (?:the|any) confusion)\b",
    rf"\b(?:no|not enough|insufficient) {_KIND}{_FACTS} (?:(?:is|are|was|were|could be|can be) )?(?:\w+ly )?{_AT_HAND}\b",
    rf"\b{_FACTS} (?:is|are|was|were) (?:not (?:\w+ly )?|un){_AT_HAND}\b",
    r"\b(?:it|the answer) is (?:not (?:\w+ly )?(?:known|clear)|unknown|unclear)\b",
    r"\b(?:it|this|that) is not (?:specified|mentioned|stated|provided) in the (?:\w+ )?(?:context|question|text|source|passage)\b",
    r"\b(?:i|we)(?: would|'d)? (?:need|require) (?:some )?(?:more|further|additional) (?:information|context|details)\b",
    r"\bplease (?:provide|give|share)(?: \w+){0,2} (?:more|further|additional) (?:information|context|details)\b",
    r"\bthere (?:seems to be|appears to be|is|might be|may be) no (?:widely |well[- ]|publicly |commonly )?known\b",
    r"\bthere (?:might|may|seems to|appears to) be (?:some |a )?(?:confusion|misunderstanding)\b",
    r"\bi'?m sorry for (?:any|the) confusion\b",
    r"\b(?:as of|up to) my (?:last|latest|most recent) (?:\w+ )?(?:update|training|cutoff)\b",
    r"\bthere is no record of\b",
    r"^(?:unknown|not known|not available|not specified|n/a|no (?:information|data|answer))[.!]?$",
)

FAMILY_EXAMPLES: dict[str, tuple[str, ...]] = {
    "Llama 3": (
        "I couldn't find any information on a film called The Ebb.",
        "I cannot verify the director of this film.",
        "I can't verify that information.",
        "I'm not aware of any information about her.",
    ),
    "Mistral": (
        "I'm unable to find specific information about that person.",
        "It is not specified in the provided context.",
        "I'd need more information to say.",
    ),
    "Qwen": (
        "As an AI developed by Alibaba Cloud, I cannot answer that.",
        "There seems to be no widely known person by that name.",
        "It seems there might be some confusion about the name.",
    ),
    "Gemma": (
        "I do not have enough information to answer this question.",
        "This question cannot be answered from the given source.",
        "Please provide me with more context.",
    ),
    "SmolLM2": (
        "I'm sorry for any confusion, but I have no access to that.",
        "As an AI assistant, I don't have personal experiences.",
    ),
    "Phi": (
        "As of my last update, there is no record of this person.",
        "I'm sorry, but the information is not available to me.",
    ),
}
"""How answers of model families decline, in our words: each is matched by REFUSAL_PATTERNS."""

_REFUSAL = re.compile("|".join(f"(?:{pattern})" for pattern in REFUSAL_PATTERNS))
_PREFIX = re.compile(r"^(?:answer ?: ?)+")


def is_refusal(answer: str) -> bool:
    """Whether any line of a raw answer declines to answer; case and the kind of apostrophe do not matter."""
    straight = answer.replace("\u2019", "'").replace("\u2018", "'").lower()
    return _REFUSAL.search(_PREFIX.sub("", " ".join(straight.split()))) is not None
