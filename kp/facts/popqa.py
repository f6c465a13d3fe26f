"""What is particular to PopQA (Mallen et al., arXiv 2212.10511) and to tables made from it.

Its columns have names of their own in the file that its authors published, popularity is the page views of the subject's Wikipedia article,
and a relation is a Wikidata property by its English label, which says what kind of thing stands at its subject end.
"""

COLUMNS = {"subj": "subject", "prop": "relation", "obj": "object", "possible_answers": "answers"}  # the authors' names: kp's
VIEWS = "s_pop"  # page views of the subject, below 0 where they are not known

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
