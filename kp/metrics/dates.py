"""Dates in names and answers, so that "25 December 1990" is "December 25, 1990"; read by dateparser."""

import warnings
from datetime import date
from functools import lru_cache

import regex

_LANGUAGES = ["en", "fr", "de", "es", "it", "pt", "nl", "ru", "zh", "ja"]
_ORDERS = ("DMY", "MDY")  # "03/04/1990" may be either
_PARTS = ["day", "month", "year"]
# A day and a year, and no more words than a date has: dateparser is slow with what is none.
_LIKELY = regex.compile(r"(?=.*\b\d{3,4}(?!\d))(?=.*(?<!\d)\d{1,2}(?!\d))[\p{L}\p{M}\d\s,./年月日-]{6,30}")
_CANDIDATE = regex.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{4}年\s*\d{1,2}月\s*\d{1,2}日"
    r"|\d{1,2}(?:st|nd|rd|th|er)?\.?(?: of| de)? \p{L}+\.?,?(?: de| del)? \d{4}|\p{L}+\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4}"
)


@lru_cache(maxsize=65536)
def dates_of(text: str) -> frozenset[date]:
    """The days that a text may mean if it is one whole date, else none."""
    if not _LIKELY.fullmatch(text.strip()):
        return frozenset()
    import dateparser  # takes half a second, and most studies have no dates

    found = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for order in _ORDERS:
            settings = {"REQUIRE_PARTS": _PARTS, "DATE_ORDER": order, "PREFER_LOCALE_DATE_ORDER": False}
            day = dateparser.parse(text.strip(), languages=_LANGUAGES, settings=settings)
            found |= {day.date()} if day else set()
    return frozenset(found)


def with_dates_as(name: str, text: str) -> str:
    """The text with every date in it that `name` may mean written as `name`."""
    wanted = dates_of(name)
    if not wanted:
        return text
    return _CANDIDATE.sub(lambda found: name if dates_of(found.group()) & wanted else found.group(), text)
