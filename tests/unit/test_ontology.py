import bz2
import gzip
from pathlib import Path

import pytest

from kp.errors import UserError
from kp.facts.dump.ontology import load_ontology

DBO = "http://dbpedia.org/ontology/"
RDFS = "http://www.w3.org/2000/01/rdf-schema#"
XSD = "http://www.w3.org/2001/XMLSchema#"
LINES = f"""# started
<{DBO}birthPlace> <http://www.w3.org/1999/02/22-rdf-syntax-ns#type> <http://www.w3.org/2002/07/owl#ObjectProperty> .
<{DBO}birthPlace> <{RDFS}label> "birth place"@en .
<{DBO}birthPlace> <{RDFS}domain> <{DBO}Animal> .
<{DBO}birthPlace> <{RDFS}range> <{DBO}Place> .
<{DBO}height> <{RDFS}range> <{XSD}double> .
<{DBO}thing> <{RDFS}domain> <http://www.w3.org/2002/07/owl#Thing> .
"""


def written(path: Path, text: str = LINES) -> str:
    packed = {".bz2": bz2.compress, ".gz": gzip.compress}.get(path.suffix, bytes)
    path.write_bytes(packed(text.encode()))
    return str(path)


@pytest.mark.parametrize("name", ["o.nt", "o.ttl", "o.nt.bz2", "o.ttl.gz"])
def test_ontology_file_gives_domains_and_ranges_by_local_name(tmp_path: Path, name: str) -> None:
    ontology = load_ontology(written(tmp_path / name))
    assert (ontology.domain("birthPlace"), ontology.range("birthPlace")) == ("Animal", "Place")
    assert (ontology.domain("height"), ontology.range("height")) == (None, "double")
    assert ontology.domain("thing") == "Thing"
    assert ontology.domain("unheardOf") is None


def test_ontology_name_in_two_vocabularies_dbpedia_decides(tmp_path: Path) -> None:
    text = (
        f"<http://schema.org/birthPlace> <{RDFS}domain> <http://schema.org/Human> .\n"
        f"<{DBO}birthPlace> <{RDFS}domain> <{DBO}Person> .\n"
        f"<{DBO}birthPlace> <{RDFS}domain> <http://schema.org/Somebody> .\n"
    )
    assert load_ontology(written(tmp_path / "o.nt", text)).domain("birthPlace") == "Person"


def test_ontology_name_in_other_vocabularies_counts_where_they_agree(tmp_path: Path) -> None:
    text = (
        f"<http://a.org/maker> <{RDFS}domain> <http://a.org/Work> .\n<http://b.org/v#maker> <{RDFS}domain> <http://b.org/v#Work> .\n"
        f"<http://a.org/title> <{RDFS}domain> <http://a.org/Work> .\n<http://b.org/v#title> <{RDFS}domain> <http://b.org/v#Person> .\n"
    )
    ontology = load_ontology(written(tmp_path / "o.nt", text))
    assert ontology.domain("maker") == "Work"
    assert ontology.domain("title") is None


def test_ontology_two_classes_of_one_relation_settle_nothing(tmp_path: Path) -> None:
    text = f"<{DBO}leader> <{RDFS}domain> <{DBO}Party> .\n<{DBO}leader> <{RDFS}domain> <{DBO}City> .\n"
    assert load_ontology(written(tmp_path / "o.nt", text)).domain("leader") is None


def test_ontology_in_prefixed_turtle_is_read(tmp_path: Path) -> None:
    text = f"@prefix dbo: <{DBO}> .\n@prefix rdfs: <{RDFS}> .\ndbo:leader\n    rdfs:domain dbo:City ; rdfs:range dbo:Person .\n"
    ontology = load_ontology(written(tmp_path / "o.ttl", text))
    assert (ontology.domain("leader"), ontology.range("leader")) == ("City", "Person")


@pytest.mark.parametrize("text", ["", f"<{DBO}height> <{RDFS}range> <{XSD}double> .\n", f"@prefix dbo: <{DBO}> .\ndbo:a a dbo:B .\n"])
def test_ontology_file_without_a_domain_names_the_field(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"facts\.graph\.ontology: .*o\.nt.*no rdfs:domain"):
        load_ontology(written(tmp_path / "o.nt", text))


def test_ontology_missing_file_names_the_field(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"facts\.graph\.ontology: .*absent\.nt.*: cannot be read: No such file"):
        load_ontology(str(tmp_path / "absent.nt"))
