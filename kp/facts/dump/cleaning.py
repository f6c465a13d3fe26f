"""The cleaning rules: which single-valued pairs make no question. The pairs that a rule drops are counted under its name.

The rules here look at one pair at a time; the two that compare the subjects of a relation with each other are in kp.facts.dump.choosing.
There is no rule for helper nodes, because the reader sets them aside. A pair is dropped by the first rule that it breaks.
"""

from enum import StrEnum

import polars as pl

from kp.facts.dump.entity_names import LONGEST_ALIAS
from kp.facts.validation import SHORT_ANSWER, stands_in

LONGEST_NAME = LONGEST_ALIAS  # characters; longer ones are mostly descriptions and are not asked about


class Rule(StrEnum):
    """Why a candidate is dropped."""

    NO_LABEL = "no_label"  # subject or object is known by an id only, and the dump has no label for it
    OBJECT_IS_SUBJECT = "object_is_subject"  # by IRI or by name
    NO_ENTITY = "no_entity"  # subject or object is a list, a category, a file, a template or a disambiguation page
    NO_LETTERS = "no_letters"  # a name without letters and digits
    LONG_NAME = "long_name"
    CONTROL_CHARACTER = "control_character"
    SAME_QUESTION = "same_question"  # two subjects with the same question even with their qualifiers, and with different objects
    SAME_FACT = "same_fact"  # another subject with the same title has the same object, and is kept
    ANSWER_IN_QUESTION = "answer_in_question"  # the object's name


RULES = tuple(Rule)
NAMESPACES = "category|template|file|image|portal|wikipedia|help|user|talk|module|draft|mediawiki|special"
_NO_ENTITY = rf"(?i)^(lists? of |index of |outline of |(?:{NAMESPACES})(?: talk)?:\S)|\(disambiguation\)$"
_LETTER = r"[\p{L}\p{N}]"
_CONTROL = r"[\x00-\x1f\x7f-\x9f]"
# ASCII, some punctuation, and accented Latin letters that NFKC does not change and whose lower case is their folded case.
_LATIN = r"\u00c0-\u00d6\u00d8-\u00de\u00e0-\u00f6\u00f8-\u012f\u0134-\u013e\u0141-\u0148\u014a-\u017e"
_SIMPLE = rf"^[\x00-\x7f{_LATIN}\u2013\u2014\u2018\u2019]*$"
_WORD, _LONG_WORD = r"(\w+)", r"(\w{4,})"


def broken_rule(pairs: pl.DataFrame) -> pl.Series:
    """The index in RULES of the first rule about single pairs that each row breaks, null for none.

    Columns: subject, object (IRIs), subject_unnamed, object_unnamed, label, name (of the subject), object_label, object_name.
    """

    def either(pattern: str) -> pl.Expr:
        return pl.col("label").str.contains(pattern) | pl.col("object_label").str.contains(pattern)

    broken = {
        Rule.NO_LABEL: pl.col("subject_unnamed") | pl.col("object_unnamed"),
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

    A question can contain an answer only if it contains each of its words, so one word is searched first. If both texts have only letters
    with one form and simple case, the same comparison is done in bulk; the other rows are compared one by one.
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
    """The words of a text, with one blank before, between and after them."""
    return pl.lit(" ") + text.str.replace_all(r"\W+", " ").str.strip_chars(" ") + pl.lit(" ")
