"""The verdict for programs: JSON, and JUnit XML as CI servers read it. Pure: a result in, a value or a text out."""

from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree as Xml

from kp.gate.pages import said, verdict_text
from kp.gate.verdict import CandidateVerdict, Check, GateResult, Outcome, Quantity

FORMAT = 1
"""Rises when a field changes its meaning."""


def json_of(result: GateResult) -> dict[str, Any]:
    """Plain JSON: the fields of GateResult, and the outcomes that follow from them."""
    candidates = [asdict(one) | {"outcome": one.outcome.value, "needed": one.needed} for one in result.candidates]
    outcome = {"outcome": result.outcome.value, "exit_code": int(result.exit_code)}
    return {"format": FORMAT, **outcome, **asdict(result), "candidates": candidates}


def junit_of(result: GateResult) -> str:
    """JUnit XML: a suite per candidate, a case per quantity and check: an error if not resolved, a failure if beyond its margin."""
    root = Xml.Element("testsuites", name="kp gate", time=f"{result.seconds:.1f}")
    for candidate in result.candidates:
        _suite(root, candidate)
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(root: Xml.Element, candidate: CandidateVerdict) -> None:
    outcomes = [one.outcome for one in candidate.judged]
    counts = {"tests": len(outcomes), "failures": outcomes.count(Outcome.FAIL), "errors": outcomes.count(Outcome.NOT_RESOLVED)}
    suite = Xml.SubElement(root, "testsuite", {"name": _legal(candidate.name), **{key: str(n) for key, n in counts.items()}})
    for one in candidate.judged:
        case = Xml.SubElement(suite, "testcase", classname=_legal(candidate.name), name=one.name)
        text = _told(one)
        if one.outcome is Outcome.FAIL:
            Xml.SubElement(case, "failure", message=text, type="beyond_margin").text = _facts(one)
        elif one.outcome is Outcome.NOT_RESOLVED:
            Xml.SubElement(case, "error", message=text, type="not_resolved")
        else:
            Xml.SubElement(case, "system-out").text = text


def _told(one: Quantity | Check) -> str:
    return _legal(one.summary if isinstance(one, Check) else f"{verdict_text(one)}: {said(one)}")


def _facts(one: Quantity | Check) -> str:
    return _legal("\n".join(one.facts)) if isinstance(one, Check) else ""


def _legal(text: str) -> str:
    """Without characters that XML does not allow."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in text)
