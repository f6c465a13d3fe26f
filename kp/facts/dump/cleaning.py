"""Which single-valued pairs make no question: the cleaning rules, each with a name under which the pairs that it drops are counted.

A rule is about one pair at a time here; the two that compare the subjects of a relation with each other are in kp.facts.dump.choosing.
Helper nodes are no rule: the reader has set them aside. A pair is dropped by the first rule that it breaks.
"""

from enum import StrEnum

import polars as pl

from kp.facts.dump.entity_names import LONGEST_ALIAS
from kp.facts.validation import SHORT_ANSWER, stands_in

LONGEST_NAME = LONGEST_ALIAS  # characters; nobody is asked about longer ones, which are mostly descriptions


class Rule(StrEnum):
    """Why a candidate is dropped."""

    OBJECT_IS_SUBJECT = "object_is_subject"  # by IRI or by name
    NO_ENTITY = "no_entity"  # a list, a category, a file, a template, a disambiguation page, in either place
    NO_LETTERS = "no_letters"  # a name without letters and digits
    LONG_NAME = "long_name"
    CONTROL_CHARACTER = "control_character"
    SAME_QUESTION = "same_question"  # two subjects that even with their qualifiers are asked alike, and have different objects
    SAME_FACT = "same_fact"  # another subject of the same title has the same object, and is kept
    ANSWER_IN_QUESTION = "answer_in_question"  # the object's name


RULES = tuple(Rule)
NAMESPACES = "category|template|file|image|portal|wikipedia|help|user|talk|module|draft|mediawiki|special"
_NO_ENTITY = rf"(?i)^(lists? of |index of |outline of |(?:{NAMESPACES})(?: talk)?:\S)|\(disambiguation\)$"
_LETTER = r"[\p{L}\p{N}]"
_CONTROL = r"[\x00-\x1f\x7f-\x9f]"
# ASCII, Latin letters with accents that Unicode keeps as they are and whose lower case is their folded case, and some punctuation.
_LATIN = r"\u00c0-\u00d6\u00d8-\u00de\u00e0-\u00f6\u00f8-\u012f\u0134-\u013e\u0141-\u0148\u014a-\u017e"
_SIMPLE = rf"^[\x00-\x7f{_LATIN}\u2013\u2014\u2018\u2019]*$"
_WORD, _LONG_WORD = r"(\w+)", r"(\w{4,})"


def broken_rule(pairs: pl.DataFrame) -> pl.Series:
    """The place in RULES of the first rule of one pair that each row breaks, null for none.

    Columns: subject, object (IRIs), label, name (of the subject), object_label, object_name.
    """

    def either(pattern: str) -> pl.Expr:
        return pl.col("label").str.contains(pattern) | pl.col("object_label").str.contains(pattern)

    broken = {
        Rule.OBJECT_IS_SUBJECT: (pl.col("subject") == pl.col("object")) | (pl.col("name") == pl.col("object_name")),
        Rule.NO_ENTITY: either(_NO_ENTITY),
        Rule.NO_LETTERS: ~pl.col("name").str.contains(_LETTER) | ~pl.col("object_name").str.contains(_LETTER),
        Rule.LONG_NAME: pl.max_horizontal(pl.col("label", "object_label").str.len_chars()) > LONGEST_NAME,
        Rule.CONTROL_CHARACTER: either(_CONTROL),
    }
    first = pl.coalesce(pl.when(condition).then(pl.lit(RULES.index(rule), dtype=pl.UInt8)) for rule, condition in broken.items())
    return pairs.select(first.alias("rule")).to_series()


def answers_stand_in(answers: pl.Series, questions: pl.Series) -> pl.Series:
    """kp.facts.validation.stands_in for each row.

    An answer can stand in a question only if each of its words does, so one word is looked for first. Where both are written in letters
    that have one form and simple cases, the rest is the same comparison in bulk; the other rows are looked at one by one.
    """
    frame = pl.DataFrame({"answer": answers, "question": questions}).with_columns(simple=_both_match(_SIMPLE))
    word = pl.coalesce(pl.col("answer").str.extract(_LONG_WORD), pl.col("answer").str.extract(_WORD), pl.lit("")).str.to_lowercase()
    has_word = pl.col("question").str.to_lowercase().str.contains(word, literal=True)
    frame = frame.with_row_index("row").filter(~pl.col("simple") | has_word)
    simple, others = frame.filter("simple"), frame.filter(~pl.col("simple")).select("row", "answer", "question")
    standing = simple.filter(_stands()).get_column("row").to_list()
    standing += [row for row, answer, question in others.iter_rows() if stands_in(answer, question)]
    return pl.repeat(False, len(answers), dtype=pl.Boolean, eager=True).scatter(standing, True)


def _both_match(pattern: str) -> pl.Expr:
    return pl.col("answer").str.contains(pattern) & pl.col("question").str.contains(pattern)


def _stands() -> pl.Expr:
    answer, question = (_in_words(pl.col(name)) for name in ("answer", "question"))
    short = answer.str.replace_all(" ", "", literal=True).str.len_chars() < SHORT_ANSWER
    folded = question.str.to_lowercase().str.contains(answer.str.to_lowercase(), literal=True)
    found = pl.when(short).then(question.str.contains(answer, literal=True)).otherwise(folded)
    return (answer.str.strip_chars(" ") != "") & found


def _in_words(text: pl.Expr) -> pl.Expr:
    """The words of a text, with one blank before, after and between them."""
    return pl.lit(" ") + text.str.replace_all(r"\W+", " ").str.strip_chars(" ") + pl.lit(" ")
