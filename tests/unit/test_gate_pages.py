"""How a verdict is written: the screen, the summary for a pull request, JSON and JUnit XML."""

import json
from xml.etree import ElementTree as Xml

import pytest

from kp.gate.machine_pages import json_of, junit_of
from kp.gate.pages import markdown_of, screen_of
from kp.gate.verdict import CandidateVerdict, Check, GateResult, Outcome, Quantity
from kp.vocabulary import Verdict

FINE = Quantity("drift", "nats", 0.0004, 0.0002, 0.0006, 0.1, Outcome.PASS, Verdict.HARM_SHOWN, 15, "texts", note="perplexity times 1.001")
HARMED = Quantity("knowledge", "share", 0.4, 0.33, 0.47, 0.02, Outcome.FAIL, Verdict.HARM_SHOWN, 250, "control facts")
OPEN = Quantity("refusals", "share", 0.0, -0.16, 0.16, 0.02, Outcome.NOT_RESOLVED, Verdict.NOT_RESOLVED, 20, "control facts", needed=1189)
LOST = Check("keep", Outcome.FAIL, "7 of 9 facts lost, at most 0 may be", tuple(f"Who owns <{place}> & why?" for place in range(7)))
NAME = "/a/rather/long/path/to/the/adapters/of/somebody/who/likes/folders/adapter-of-the-day-before"


@pytest.fixture
def result() -> GateResult:
    good = CandidateVerdict("good", "d1", (FINE,), notes=("its config names another base, and its matrices fit",))
    bad = CandidateVerdict(NAME, "d2", (HARMED, OPEN, FINE), (LOST,))
    return GateResult("tiny", "r1", 250, 6, "[knowledge]\nmargin = 0.02\n", (good, bad), ("a note " * 30,), 12.3)


def test_screen_is_at_most_80_columns_wide_and_says_all(result: GateResult) -> None:
    screen = screen_of(result)
    assert max(map(len, screen.splitlines())) <= 80
    assert "good: PASS" in screen
    assert "knowledge     +40.0     +33.0 to +47.0      2.0      harm beyond the margin" in screen
    assert "about 1,189 control facts would resolve it" in screen
    assert "drift         +0.000    +0.000 to +0.001    0.100" in screen
    assert "- and 2 more" in screen
    assert screen.endswith("FAIL (exit code 1) in 12 s")


def test_markdown_has_a_table_of_each_candidate_with_the_margins(result: GateResult) -> None:
    page = markdown_of(result)
    assert page.startswith("### ❌ kp gate: fail\n")
    assert page.count("| quantity |") == 2
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {7}
    assert "```toml\n[knowledge]\nmargin = 0.02\n```" in page


def test_json_has_outcomes_and_figures(result: GateResult) -> None:
    told = json.loads(json.dumps(json_of(result)))
    assert (told["outcome"], told["exit_code"], told["format"]) == ("fail", 1, 1)
    assert [one["outcome"] for one in told["candidates"]] == ["pass", "fail"]
    assert told["candidates"][1]["needed"] == 1189
    assert told["candidates"][1]["quantities"][0]["lower"] == 0.33


def test_junit_counts_failures_and_errors_and_quotes_what_xml_does_not_allow(result: GateResult) -> None:
    suites = Xml.fromstring(junit_of(result)).findall("testsuite")
    assert [(one.get("tests"), one.get("failures"), one.get("errors")) for one in suites] == [("1", "0", "0"), ("4", "2", "1")]
    failure = suites[1].find("testcase[@name='keep']/failure")
    assert failure is not None
    assert failure.text == "\n".join(LOST.facts)
    error = suites[1].find("testcase[@name='refusals']/error")
    assert error is not None
    assert "1,189" in str(error.get("message"))


def test_outcome_of_a_candidate_is_not_resolved_where_nothing_fails() -> None:
    candidate = CandidateVerdict("c", "d", (FINE, OPEN))
    assert (candidate.outcome, candidate.needed) == (Outcome.NOT_RESOLVED, 1189)
    assert screen_of(GateResult("m", "r", 20, 6, "", (candidate,))).endswith("NOT RESOLVED (exit code 3) in 0 s")
