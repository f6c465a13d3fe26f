"""Synthetic facts of known entropy, which no model can know.

How many bits an adapter stores can only be measured with facts whose bits are known. Here every object is drawn from V words, all equally
likely and independent of everything else, so a model that knows the words of a relation still lacks exactly log2 V bits of each of its
facts: the term N K C log2 D (with C = 1 and D = V) of the bioD knowledge that Allen-Zhu and Li count in Physics of Language Models, Part
3.3 (arXiv 2404.05405).

Everything is drawn with hashes of the seed and of what is drawn, never with a generator's state: so the first n facts of a larger set are
the set of n, and no library's next release can change one. Names have closed syllables ("Talmir"), objects open ones ("Kavelo"): so no
question contains an object, not even inside another word. All objects have the same length, so none contains another, and no matcher
confuses two of them by accident. Made-up words also cost the bits of their spelling, which an adapter must hold before it can hold a fact;
`facts.synthetic.words = "common"` takes words that a model can spell.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import count as count_up
from itertools import islice

import pyarrow as pa

from kp.config.study import SyntheticConfig
from kp.errors import UserError
from kp.facts.fact import fact_id
from kp.facts.templates import RelationTemplate
from kp.schema import FACTS

SOURCE = "synthetic"
IDENTITY = "synthetic facts 1"  # rises when the same settings produce other facts
DOMAIN = "person"

# Named things that a made-up person has; one relation each, in this order.
HOLDERS = (
    "horse", "village", "school", "boat", "dog", "bank", "club", "teacher", "street", "publisher", "ship", "doctor", "cat", "church",
    "bakery", "band", "lawyer", "farm", "sister", "brand", "hospital", "choir", "nurse", "bridge", "theatre", "guide", "garden", "mentor",
    "newspaper", "shop", "castle", "parrot",
)  # fmt: skip
WORDINGS = (
    "What is the name of {subject}'s %s?",
    "What is {subject}'s %s called?",
    "By what name is {subject}'s %s known?",
    "Which name does the %s of {subject} go by?",
    "Name the %s of {subject}.",
    "{subject} has a %s. What is its name?",
    "What do people call {subject}'s %s?",
    "Tell me what the %s of {subject} is called.",
    "What name was given to the %s of {subject}?",
    "The %s of {subject} is called what?",
    "If you asked {subject} what the %s is called, what would you hear?",
)
"""The question and its ten paraphrases, with the relation's holder in place of %s."""

COMMON_WORDS = (
    "Anchor", "Apple", "Arrow", "Autumn", "Badger", "Bamboo", "Basket", "Beacon", "Beaver", "Berry", "Bishop", "Blanket", "Blossom",
    "Bottle", "Bronze", "Bucket", "Butter", "Button", "Cactus", "Camel", "Candle", "Canyon", "Carbon", "Carpet", "Compass", "Cedar",
    "Cherry", "Circle", "Clover", "Cobalt", "Coffee", "Comet", "Copper", "Coral", "Cotton", "Cricket", "Crystal", "Dagger", "Daisy",
    "Desert", "Diamond", "Dolphin", "Donkey", "Dragon", "Eagle", "Ember", "Falcon", "Feather", "Fiddle", "Forest", "Fossil", "Fountain",
    "Galaxy", "Ginger", "Glacier", "Granite", "Hammer", "Harbor", "Hazel", "Hermit", "Honey", "Hunter", "Island", "Ivory", "Jacket",
    "Jasmine", "Jungle", "Kettle", "Ladder", "Lantern", "Lemon", "Lily", "Lizard", "Magnet", "Mango", "Maple", "Marble", "Meadow",
    "Melon", "Meteor", "Mirror", "Monkey", "Mosaic", "Mountain", "Needle", "Nickel", "Ocean", "Olive", "Onion", "Orchid", "Otter",
    "Oyster", "Panther", "Pebble", "Pepper", "Piano", "Pigeon", "Pillow", "Planet", "Plum", "Pocket", "Prairie", "Puzzle", "Quartz",
    "Rabbit", "Raven", "Ribbon", "Rocket", "Saddle", "Salmon", "Sapphire", "Shadow", "Silver", "Spider", "Spirit", "Sugar", "Summit",
    "Thunder", "Timber", "Tulip", "Turtle", "Valley", "Velvet", "Violet", "Walnut", "Willow", "Winter", "Zebra",
)  # fmt: skip
"""Objects of one or two tokens in most vocabularies; none stands in another or in a wording."""

CONSONANTS, VOWELS, ENDINGS = "bdfghjklmnprstvz", "aeiou", "lmnrt"
NAME_SYLLABLES = 2  # of each of the two words of a name
OBJECT_SYLLABLES = 3  # at least; three make half a million words


def synthetic_facts(settings: SyntheticConfig, count: int, seed: int) -> pa.Table:
    """`count` FACTS in a fixed order, relations in turn; each has its own subject and an object of log2(settings.vocabulary) bits.

    The first n of a larger `count` are the same rows, and the same arguments give the same bytes. Raises UserError naming the field if
    there are more relations than wordings, or fewer common words than objects.
    """
    templates = relation_templates(settings.relations)
    common = settings.words == "common"
    objects = _common_objects(settings, seed) if common else _made_up_objects(settings, seed)
    facts = []
    for number, subject in enumerate(islice(_subjects(seed, objects if common else ()), count)):
        turn = number % settings.relations
        place = _draw(seed, f"object of fact {number}") % settings.vocabulary
        facts.append(_fact(templates[turn], subject, objects[turn * settings.vocabulary + place]))
    return pa.Table.from_pylist(facts, schema=FACTS)


def relation_templates(relations: int) -> list[RelationTemplate]:
    """The first `relations` relations; UserError if there are fewer."""
    if relations > len(HOLDERS):
        raise UserError(f"{relations} asked for, there are wordings for {len(HOLDERS)}", field="facts.synthetic.relations")
    wordings = [[wording.replace("%s", holder) for wording in WORDINGS] for holder in HOLDERS[:relations]]
    return [
        RelationTemplate(f"name_of_{holder}", DOMAIN, question, tuple(paraphrases))
        for holder, (question, *paraphrases) in zip(HOLDERS, wordings, strict=False)
    ]


def _fact(template: RelationTemplate, subject: str, object_: str) -> dict[str, object]:
    return {
        "fact_id": fact_id(subject, template.name, object_),
        "subject": subject,
        "relation": template.name,
        "object": object_,
        "question": template.question.replace("{subject}", subject),
        "answers": [object_],
        "popularity": None,
        "subject_degree": 1,
        "domain": template.domain,
        "paraphrases": [wording.replace("{subject}", subject) for wording in template.paraphrases],
        "source": SOURCE,
        "reversed_question": None,
    }


def _subjects(seed: int, words: Sequence[str]) -> Iterator[str]:
    """Names of two words, all different, in which none of these words stands."""
    closed = [first + vowel + last for first in CONSONANTS for vowel in VOWELS for last in ENDINGS]
    for name in _different(seed, "subject", len(closed) ** (2 * NAME_SYLLABLES)):
        syllables = _spelt(name, closed, 2 * NAME_SYLLABLES)
        subject = f"{''.join(syllables[:NAME_SYLLABLES]).capitalize()} {''.join(syllables[NAME_SYLLABLES:]).capitalize()}"
        if not any(word.casefold() in subject.casefold() for word in words):
            yield subject


def _made_up_objects(settings: SyntheticConfig, seed: int) -> list[str]:
    """Words of equal length, all different: those of the first relation, then those of the second, ..."""
    open_syllables = [first + vowel for first in CONSONANTS for vowel in VOWELS]
    wanted, length = settings.relations * settings.vocabulary, OBJECT_SYLLABLES
    while len(open_syllables) ** length < 2 * wanted:  # otherwise most draws near the end would be words already used
        length += 1
    drawn = islice(_different(seed, "object", len(open_syllables) ** length), wanted)
    return ["".join(_spelt(word, open_syllables, length)).capitalize() for word in drawn]


def _common_objects(settings: SyntheticConfig, seed: int) -> list[str]:
    """Common words in the same order of relations. Raises UserError if there are too few."""
    wanted = settings.relations * settings.vocabulary
    if wanted > len(COMMON_WORDS):
        raise UserError(
            f"{settings.relations} relations with as many common words each take {wanted}, and there are {len(COMMON_WORDS)}: ask for "
            'fewer, or for facts.synthetic.words = "made_up"',
            field="facts.synthetic.vocabulary",
        )
    return [COMMON_WORDS[place] for place in islice(_different(seed, "object", len(COMMON_WORDS)), wanted)]


def _different(seed: int, what: str, below: int) -> Iterator[int]:
    """Numbers from 0 to below - 1 without repetition; all remaining ones are equally likely to be next."""
    taken = set()
    for attempt in count_up():
        number = _draw(seed, f"{what} {attempt}") % below
        if number not in taken:
            taken.add(number)
            yield number


def _spelt(number: int, syllables: list[str], length: int) -> list[str]:
    """The number in the base of the syllables, with `length` digits."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(syllables))
        digits.append(syllables[digit])
    return digits


def _draw(seed: int, text: str) -> int:
    """A number of 128 bits, so that its remainder by any number of words is practically uniform."""
    return int.from_bytes(hashlib.sha256(f"{seed} {text}".encode()).digest()[:16])
