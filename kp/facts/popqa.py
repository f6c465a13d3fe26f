"""The specifics of PopQA (Mallen et al., arXiv 2212.10511) and of tables made from it.

The file published by its authors has its own column names, popularity is the page views of the subject's Wikipedia article, and a relation
is the English label of a Wikidata property, from which the class of its subjects follows.
"""

COLUMNS = {"subj": "subject", "prop": "relation", "obj": "object", "possible_answers": "answers"}  # the authors' names: kp's
VIEWS = "s_pop"  # page views of the subject, below 0 if unknown

# The class of a relation's subjects, as DBpedia's ontology would call it: the domain of its property of that meaning.
DOMAINS = {
    "author": "Work",
    "capital": "PopulatedPlace",
    "capital of": "PopulatedPlace",
    "composer": "Work",
    "country": "Place",
    "director": "Work",
    "father": "Person",
    "genre": "Work",
    "mother": "Person",
    "occupation": "Person",
    "place of birth": "Person",
    "producer": "Work",
    "religion": "Agent",
    "screenwriter": "Work",
    "sport": "Agent",
}
