"""English words that decide what an answer says: each list is one closed class, or the kinds of things that stand beside names."""


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


WORDS = _listed(
    """
    a about above after again all also am an and any are as ask at away bad be been before being best big both but by call can come
    could did do does done down each end even ever every far few find first for from gas get give go good got had has have he her
    here him his how i if in into is it its just know let like made make man many may me might mind more most much must my near need
    never new next no none nor not now of off old on once one only or our out over own people put run said same saw say see she
    should so some such take tell than that the their them then there these they thing think this those time to too two under up
    upon us use very want was way we well went were what when where which while who whom whose why will with would yes yet you your
    """
)
"""Words that are also names, symbols and codes (Who, It, As, No, US)."""

UNITS = _listed(
    """
    cm ft g kg km m mg mi mm mph
    """
)
"""Units that may be written to a number."""

NOUNS_AFTER = _listed(
    """
    airport band element film language programming symbol
    """
)
"""What a name may be called that begins an answer: "Go language"."""

DENIALS = _listed(
    """
    aint arent cannot cant couldnt didnt doesnt dont except excluding isnt kein keine neither never nicht nor not pas wasnt werent
    without wont wouldnt не нет ليس ليست
    """
)
"""A name after one of these is denied."""

CLAUSE = _listed(
    """
    although because but however since so though yet
    """
)
"""Words that begin a clause, which a denial before them does not reach."""

JOINS = _listed(
    """
    also and et او even maybe nor oder or ou perhaps plus possibly sometimes then und versus vs y
    """
)
"""What stands between alternatives."""

DENSE_JOINS = _listed(
    """
    หรือ และ か と または や 与 及 和 或 或者 與 과 그리고 나 또는 및 와 이나 혹은
    """
)
"""The same in scripts without blanks, and in Korean."""

RETRACTIONS = _listed(
    """
    actually correction no rather sorry wait
    """
)
"""A sentence that begins with one of these takes back the one before."""

ALL_BUT = _listed(
    """
    all anything anywhere everything everywhere
    """
)
"""With "but" they deny what follows."""

ABBREVIATED = _listed(
    """
    co col corp dr fort gen hon inc jr lt ltd mount mr mrs ms prof rev saint sr vs
    """
)
"""Abbreviations, whose dot ends no sentence."""

STATEMENTS = _listed(
    """
    are contains has have is lies was were
    """
)
"""After the question's subject: a statement about it follows."""

TITLES = _listed(
    """
    actor actress это admiral album ancient answer archbishop architect artist author band baron bishop book capital capt captain
    cardinal chancellor city coach code col colonel company composer continent count countess country dame director dr duchess duke
    earl element emperor empress father film filmmaker gen general governor group island judge justice king lady lake language
    lieutenant lord lt major mayor minister miss modern mount mountain movie mr mrs ms nation novel novelist painter planet poet
    pope president prince princess producer prof professor queen rev reverend river saint screenwriter secretary senator sergeant
    singer sir song state symbol town writer
    """
)
"""Words before a name that make no longer name of it."""

KINDS = _listed(
    """
    airport album band book city club code company continent country county dollar element esq film iata island jr language languages
    movie music nation novel party people programming province region religion river song sr state symbol team
    """
)
"""Words after a name that make no longer name of it."""

KINDS_IN_NAMES = _listed(
    """
    airport city county dollar island people province region river state
    """
)
"""Those that do, in capitals: "Mexico City"."""

POLITIES = _listed(
    """
    canton capital center city commonwealth confederation continent country county department district dominion duchy east element
    emirate empire federation governorate island islands isle kingdom language middle municipality name nation north parish part
    peoples prefecture principality province region republic south state sultanate territory town union village west
    """
)
"""What may be "of" a name and mean the same: "Republic of Ireland", but not "Bank of America"."""

DIRECTIONS = _listed(
    """
    east equatorial new north south west
    """
)
"""Words before a name that make another name of it, in small letters, too."""
