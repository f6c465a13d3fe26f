"""scripts/fetch_wikidata_aliases.py against a small SPARQL service on this machine."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import polars as pl
import pytest

from kp.config.study import GraphConfig
from kp.facts.dump.entity_names import load_names
from tests.loaded_script import load_script

DBR = "http://dbpedia.org/resource/"
NAMES = {  # what the service knows, by Q-id or title: label, aliases
    "Q42": ("Douglas Adams", "Douglas Noel Adams", "DNA"),
    "Q90": ("Paris", "City of Light"),
    "Q64": ("Berlin",),
    'Tip "T.I." Harris': ("T.I.", "Clifford Harris"),
    "Titanic (1997 film)": ("Titanic", "Titanic, the movie"),
}


script = load_script("fetch_wikidata_aliases")


class Service(ThreadingHTTPServer):
    """Answers queries out of NAMES; `troubles` (status and headers) are handed out first, one a request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.troubles: list[tuple[int, dict[str, str]]] = []
        self.asked: list[list[str]] = []  # the keys of each query that was answered
        self.agents: set[str] = set()
        self.refused_keys: set[str] = set()  # queries for these always fail

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/sparql"


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        query = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["query"][0]
        keys = re.findall(r"wd:(Q\d+)", query) + [re.sub(r"\\(.)", r"\1", key) for key in re.findall(r'"((?:[^"\\]|\\.)*)"@en', query)]
        self.server.agents.add(self.headers["User-Agent"])
        if self.server.troubles:
            status, headers = self.server.troubles.pop(0)
            self._reply(status, b"busy", headers)
        elif self.server.refused_keys & set(keys):
            self._reply(500, b"java.util.concurrent.TimeoutException", {})
        else:
            self.server.asked.append(keys)
            self._reply(200, json.dumps({"results": {"bindings": list(map(_cells, keys_and_names(keys)))}}).encode(), {})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output free of a line for each request."""


def keys_and_names(keys: list[str]) -> list[tuple[str, str, int]]:
    """Rows in an order that says nothing, aliases before labels."""
    return [(key, name, 2 if place else 0) for key in keys for place, name in reversed(list(enumerate(NAMES.get(key, ()))))]


def _cells(row: tuple[str, str, int]) -> dict[str, dict[str, str]]:
    key, name, place = row
    return {
        "key": {"type": "literal", "value": key},
        "name": {"xml:lang": "en", "type": "literal", "value": name},
        "place": {"type": "literal", "value": str(place)},
    }


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def waits() -> list[float]:
    """The seconds that the script meant to sleep."""
    return []


def entities(tmp_path: Path, *names: str) -> Path:
    path = tmp_path / "entities.txt"
    path.write_text("\n".join(names) + "\n", encoding="utf-8")
    return path


def run(path: Path, out: Path, service: Service, waits: list[float], *more: str) -> int:
    code = script.main([str(path), "--out", str(out), "--endpoint", service.endpoint, "--contact", "me@example.org", *more], waits.append)
    assert isinstance(code, int)
    return code


def rows(out: Path) -> list[tuple[str, str]]:
    return list(pl.read_parquet(out).select("id", "alias").iter_rows())


def test_fetch_ids_and_titles_become_a_table_that_kp_reads(tmp_path: Path, service: Service, waits: list[float]) -> None:
    titanic, harris = f"{DBR}Titanic_(1997_film)", f"{DBR}Tip_%22T.I.%22_Harris"
    path = entities(tmp_path, titanic, "http://www.wikidata.org/entity/Q90", "", harris, f"{DBR}Nothing_known", titanic)
    assert run(path, tmp_path / "a.parquet", service, waits) == 0
    assert rows(tmp_path / "a.parquet") == [
        (titanic, "Titanic"),
        (titanic, "Titanic, the movie"),
        ("http://www.wikidata.org/entity/Q90", "Paris"),
        ("http://www.wikidata.org/entity/Q90", "City of Light"),
        (harris, "T.I."),
        (harris, "Clifford Harris"),
    ]
    assert service.asked == [["Q90"], ["Titanic (1997 film)", 'Tip "T.I." Harris', "Nothing known"]]
    assert service.agents == {"kp/0.1.0 (fetch_wikidata_aliases; me@example.org)"}
    assert waits == []
    names = load_names(GraphConfig(aliases=str(tmp_path / "a.parquet")), [titanic])
    assert names.answers(titanic) == ["Titanic", "Titanic (1997 film)", "Titanic, the movie"]


def test_fetch_parquet_column_is_asked_in_batches(tmp_path: Path, service: Service, waits: list[float]) -> None:
    pl.DataFrame({"object": ["Q42", "Q90", "Q42", "Q64"]}).write_parquet(tmp_path / "pairs.parquet")
    assert run(tmp_path / "pairs.parquet", tmp_path / "a.parquet", service, waits, "--batch", "2") == 0
    assert service.asked == [["Q42", "Q90"], ["Q64"]]
    assert rows(tmp_path / "a.parquet")[:3] == [("Q42", "Douglas Adams"), ("Q42", "DNA"), ("Q42", "Douglas Noel Adams")]


def test_fetch_service_that_is_busy_is_asked_again_when_it_says(tmp_path: Path, service: Service, waits: list[float]) -> None:
    service.troubles = [(429, {"Retry-After": "7"}), (503, {}), (500, {})]
    assert run(entities(tmp_path, "Q64"), tmp_path / "a.parquet", service, waits) == 0
    assert rows(tmp_path / "a.parquet") == [("Q64", "Berlin")]
    assert waits == [7.0, 10.0, 20.0]


def test_fetch_answer_that_was_cut_short_is_asked_for_again(tmp_path: Path, service: Service, waits: list[float]) -> None:
    service.troubles = [(200, {}), (200, {"Content-Length": "1000", "Connection": "close"})]
    assert run(entities(tmp_path, "Q64"), tmp_path / "a.parquet", service, waits) == 0
    assert waits == [5.0, 10.0]


def test_fetch_batch_that_fails_for_good_keeps_the_rest_and_resumes(
    tmp_path: Path, service: Service, waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = entities(tmp_path, "Q42", "Q90", "Q64", "Q1"), tmp_path / "a.parquet"
    service.refused_keys = {"Q64"}
    assert run(path, out, service, waits, "--batch", "2") == 1
    last, hint = capsys.readouterr().err.splitlines()[-2:]
    assert last == f"{service.endpoint}: HTTP 500 Internal Server Error, 6 times in a row"
    assert "a.parquet.parts.jsonl" in hint
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0]
    assert not out.exists()

    service.refused_keys, service.asked = set(), []
    assert run(path, out, service, waits, "--batch", "2") == 0
    assert service.asked == [["Q64", "Q1"]]
    assert [entity for entity, _ in rows(out)] == ["Q42", "Q42", "Q42", "Q90", "Q90", "Q64"]

    service.asked = []
    assert run(path, out, service, waits) == 0
    assert service.asked == []  # not even of Q1, which has no names


def test_fetch_resumed_equals_uninterrupted(tmp_path: Path, service: Service, waits: list[float]) -> None:
    path = entities(tmp_path, "Q90", f"{DBR}Titanic_(1997_film)", "Q42", "Q64")
    assert run(path, tmp_path / "whole.parquet", service, waits, "--batch", "1") == 0
    parts = (tmp_path / "whole.parquet.parts.jsonl").read_bytes()
    (tmp_path / "killed.parquet.parts.jsonl").write_bytes(parts[: len(parts) // 2])  # in the middle of a line, as a kill may leave it
    assert run(path, tmp_path / "killed.parquet", service, waits, "--batch", "1") == 0
    assert (tmp_path / "killed.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_fetch_query_that_is_refused_is_not_asked_again(
    tmp_path: Path, service: Service, waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    service.troubles = [(403, {})]
    assert run(entities(tmp_path, "Q64"), tmp_path / "a.parquet", service, waits) == 1
    assert "HTTP 403" in capsys.readouterr().err
    assert waits == []


@pytest.mark.parametrize(("text", "message"), [("Q42\nParis\n", "row 2: 'Paris'"), ("http://de.dbpedia.org/resource/K%C3%B6ln\n", "row 1")])
def test_fetch_entity_of_another_kind_is_told_by_row(
    tmp_path: Path, service: Service, waits: list[float], capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    path = tmp_path / "entities.txt"
    path.write_text(text, encoding="utf-8")
    assert run(path, tmp_path / "a.parquet", service, waits) == 2
    assert message in capsys.readouterr().err
    assert service.asked == []


def test_fetch_file_that_is_missing_is_told(
    tmp_path: Path, service: Service, waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "absent.parquet", tmp_path / "a.parquet", service, waits) == 2
    assert "absent.parquet: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "attempt", "seconds"),
    [
        ("12", 1, 12.0),
        ("0", 3, 0.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 1, 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 1, 0.0),
        ("soon", 2, 10.0),
        (None, 1, 5.0),
        (None, 3, 20.0),
        (None, 30, 300.0),
    ],
)
def test_waiting_seconds_header_wins_over_doubling(header: str | None, attempt: int, seconds: float) -> None:
    assert script.waiting_seconds(header, attempt, lambda: datetime(2026, 10, 21, 7, 28, tzinfo=UTC)) == seconds


def test_query_for_title_with_quotes_stays_one_literal() -> None:
    query = script.query_for([f"{DBR}Tip_%22T.I.%22_Harris", f"{DBR}Back%5Cslash"])
    assert r'VALUES ?title { "Tip \"T.I.\" Harris"@en "Back\\slash"@en }' in query
