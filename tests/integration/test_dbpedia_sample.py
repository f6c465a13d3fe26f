"""The real sample of DBpedia, two hops around films, from the file to facts. The numbers are what it gave when its questions were read."""

from pathlib import Path

import polars as pl
import pytest

from kp.config.study import GraphConfig
from kp.facts.dump.facts import GraphFacts, facts_of_graph
from kp.facts.dump.reading import GraphCounts, read_graph
from kp.facts.dump.schema import SET_ASIDE
from kp.facts.validation import check_facts
from kp.schema import read_table
from tests.real_data import FOLDER, needs_real

SAMPLE = FOLDER / "dbpedia_sample.ttl.bz2"

pytestmark = needs_real(SAMPLE.name)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GraphCounts]:
    folder = tmp_path_factory.mktemp("sample")
    return folder, read_graph(str(SAMPLE), folder, 2)


@pytest.fixture(scope="module")
def made(sample: tuple[Path, GraphCounts]) -> GraphFacts:
    return facts_of_graph(sample[0], GraphConfig(), 0, "dbpedia")


def test_sample_is_read_whole(sample: tuple[Path, GraphCounts]) -> None:
    folder, counts = sample
    assert counts == GraphCounts(
        files=1,
        lines=99_172,
        triples=93_610,
        distinct_triples=93_610,
        entities=34_351,
        relations=26,
        pairs=32_131,
        set_aside=5_562,
        unreadable=0,
    )
    reasons = read_table(folder / "set_aside.parquet", SET_ASIDE).to_pylist()
    assert [(row["reason"], row["lines"]) for row in reasons] == [("helper_node", 5_562)]


# relation: distinct triples, single-valued pairs, candidates that the rules leave, facts in each of the three buckets
FOUND = {
    "starring": (32968, 303, 284, 4),
    "producer": (8487, 2343, 2341, 422),
    "writer": (8167, 3077, 3072, 589),
    "distributor": (6468, 4779, 4779, 679),
    "director": (6395, 5726, 5721, 1027),
    "productionCompany": (5697, 1687, 1683, 202),
    "musicComposer": (5629, 4491, 4488, 524),
    "genre": (4188, 503, 501, 37),
    "cinematography": (4006, 3780, 3780, 322),
    "editing": (3465, 2624, 2624, 213),
    "occupation": (3264, 111, 111, 15),
    "country": (1085, 884, 877, 220),
    "relative": (1042, 380, 374, 68),
    "language": (879, 442, 441, 97),
    "location": (588, 125, 124, 18),
    "narrator": (218, 179, 179, 42),
    "company": (193, 74, 74, 16),
    "author": (171, 107, 104, 18),
    "network": (165, 138, 138, 27),
    "composer": (112, 69, 69, 14),
    "executiveProducer": (99, 30, 30, 4),
    "subsequentWork": (94, 92, 91, 13),
    "previousWork": (87, 79, 67, 9),
    "format": (73, 49, 49, 3),
    "editor": (37, 28, 28, 4),
    "person": (33, 31, 0, 0),
}


def test_relations_and_buckets_of_the_sample_give_the_counted_facts(made: GraphFacts) -> None:
    found = {}
    for row in made.relations.to_pylist():
        assert row["head"] == row["torso"] == row["tail"]
        found[row["relation"]] = (row["triples"], row["pairs"], row["candidates"], row["head"])
    assert found == FOUND
    sizes = pl.DataFrame(made.facts).group_by("relation", "popularity").len()
    assert {(relation, bucket): size for relation, bucket, size in sizes.rows()} == {
        (relation, bucket): counts[3] for relation, counts in FOUND.items() if counts[3] for bucket in ("head", "torso", "tail")
    }
    assert made.untemplated(3) == [("person", 33)]


def test_candidates_dropped_of_the_sample_are_counted_by_rule(made: GraphFacts) -> None:
    dropped = pl.DataFrame(made.dropped).group_by("rule").agg(pl.col("candidates").sum()).sort("rule").rows()
    assert dropped == [("answer_in_question", 42), ("no_entity", 9), ("object_is_subject", 18), ("same_question", 2)]


def test_facts_of_the_sample_are_valid(made: GraphFacts) -> None:
    kept, quarantined = check_facts(made.facts, "sample")
    assert (kept.num_rows, quarantined.num_rows) == (13_761, 0)
    facts = {row["question"]: row for row in made.facts.to_pylist()}
    assert facts["Who directed All Quiet on the Western Front?"]["answers"] == ["Lewis Milestone"]
    assert facts["Which company produced Seven Samurai?"]["popularity"] == "head"


def test_smaller_draw_of_the_sample_is_within_the_whole(sample: tuple[Path, GraphCounts], made: GraphFacts) -> None:
    small = facts_of_graph(sample[0], GraphConfig(per_bucket=20), 0, "dbpedia").facts
    assert set(small["fact_id"].to_pylist()) < set(made.facts["fact_id"].to_pylist())
    assert small.num_rows == sum(3 * min(20, counts[3]) for counts in FOUND.values())
