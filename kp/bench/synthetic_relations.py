"""The relations of a synthetic dump: those of DBpedia's ontology, the frequent ones of each kind of subject first.

A dump with the same parameters must have the same bytes in every version of kp, so the names are listed here and not read from kp's
templates. As in the real dump, most of them have a template, and the rarer ones mostly do not.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from kp.bench.synthetic_names import KINDS, Kind

_OFTEN_ALONE, _SELDOM_ALONE = 0.88, 0.25  # probability that a subject has exactly one object of the relation

_RELATIONS = {
    Kind.PERSON: {
        Kind.PLACE: "birthPlace deathPlace nationality residence hometown country restingPlace stateOfOrigin citizenship region",
        Kind.ORGANISATION: "team* recordLabel* almaMater* party formerTeam* college employer branch* militaryUnit* draftTeam coachedTeam* "
        "league currentMember",
        Kind.TOPIC: "occupation* genre* instrument* award* religion profession* ethnicity* field* position sport knownFor* ideology",
        Kind.PERSON: "spouse successor predecessor child* parent* associatedBand* relative* doctoralAdvisor influencedBy* partner "
        "doctoralStudent* opponent* trainer* primeMinister governor monarch vicePresident academicAdvisor* runningMate",
        Kind.WORK: "notableWork* battle* selection*",
    },
    Kind.WORK: {
        Kind.PERSON: "starring* director writer* producer* artist author musicComposer* cinematography editing* narrator illustrator "
        "creator* developer composer* lyricist* executiveProducer* presenter* voice* translator openingTheme guest*",
        Kind.ORGANISATION: "distributor recordLabel* productionCompany* publisher network developer* channel* studio* firstPublisher",
        Kind.PLACE: "country location* recordedIn* premierePlace setting*",
        Kind.TOPIC: "genre* language computingPlatform* literaryGenre* format* mediaType* nonFictionSubject* license",
        Kind.WORK: "previousWork subsequentWork series album bSide basedOn",
    },
    Kind.PLACE: {
        Kind.PLACE: "country isPartOf* subdivision* location* district region state county department* capital largestCity timeZone "
        "city municipality sourceCountry mouthPlace* nearestCity* twinTown* crosses riverMouth borough lowestPlace",
        Kind.PERSON: "leaderName* architect* founder* mayor governor* namedAfter",
        Kind.ORGANISATION: "operator owner* tenant* builder* politicalPartyOfLeader governingBody railwayLine*",
        Kind.TOPIC: "architecturalStyle* language* category nrhpType* governmentType routeTypeAbbreviation",
    },
    Kind.ORGANISATION: {
        Kind.PLACE: "location* city country headquarter ground state foundationPlace locationCountry* regionServed* hubAirport* province",
        Kind.PERSON: "bandMember* formerBandMember* manager keyPerson* foundedBy* chairman president leader head* captain* dean "
        "generalManager",
        Kind.ORGANISATION: "league parentCompany owner* owningCompany* subsidiary* affiliation* associatedMusicalArtist* broadcastNetwork "
        "sisterStation* athletics* targetAirport* distributingLabel",
        Kind.TOPIC: "genre* industry* product* type format* language* sport service* mascot colour* ideology* politicalIdeology",
    },
    Kind.TOPIC: {
        Kind.TOPIC: "family order class phylum kingdom genus stylisticOrigin* derivative* languageFamily musicFusionGenre* division* "
        "musicSubgenre* superfamily* tribe",
        Kind.PLACE: "spokenIn* country* origin",
        Kind.PERSON: "influencedBy* namedAfter discoverer",
    },
}

HELPERS = (("occupation", "PersonFunction"), ("careerStation", "CareerStation"), ("militaryService", "MilitaryService"))
"""Relations whose object is a helper node for a stage of a person's life, and the word in the node's name."""

HELPER_RELATION = "team"
"""The relation of such nodes."""


@dataclass(frozen=True)
class RelationTable:
    """Numbered relations: name, kind of object (index in KINDS), probability of a single object; and their frequency by kind of subject."""

    names: list[str]
    objects: NDArray[np.int64]
    alone: NDArray[np.float64]
    of_kind: list[tuple[NDArray[np.int64], NDArray[np.float64]]]  # relations, and the cumulative distribution over them


@cache
def relation_table() -> RelationTable:
    """All relations; those of several kinds of subject or object are in it several times."""
    names: list[str] = []
    objects, alone, of_kind = [], [], []
    for kind in KINDS:
        weights, start = [], len(names)
        for group, (object_kind, listed) in enumerate(_RELATIONS[kind].items()):
            for place, word in enumerate(listed.split()):
                names.append(word.removesuffix("*"))
                objects.append(KINDS.index(object_kind))
                alone.append(_SELDOM_ALONE if word.endswith("*") else _OFTEN_ALONE)
                weights.append(1 / (place + 1) / (group + 1))  # Zipf's law, within a kind of object and among the kinds
        shares = np.cumsum(weights) / sum(weights)
        of_kind.append((np.arange(start, len(names)), shares))
    return RelationTable(names, np.array(objects), np.array(alone), of_kind)
