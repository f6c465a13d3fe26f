"""Names in configs and facts, and links in the results root, lead nowhere outside it."""

import json
from pathlib import Path

import pytest

from kp.config.faults import InvalidStudyError
from kp.config.study import load_study, study_of
from kp.errors import UserError
from kp.store.steps import Step, Store
from kp.study.facts_description import describe_study_facts
from tests.conftest import SMOKE

STEP = Step("facts", {})
NAMES = ("../x", "/abs", "a/../../b", "..", ".hidden", "a\0b", "a\nb", "a\n", "a b", "", "store", "work", "damaged", "-a", "a\\b")


@pytest.mark.parametrize("name", NAMES)
def test_study_is_not_named_after_another_place(name: str) -> None:
    with pytest.raises(InvalidStudyError, match="name"):
        study_of({"name": name, "training": {"lora_alpha": 16}})


@pytest.mark.parametrize("kind", ["store", "store/facts", "work", "work/facts", "work/search", "s", "damaged"])
def test_link_that_leads_out_of_the_results_root_is_refused_and_nothing_is_written_there(kind: str, tmp_path: Path) -> None:
    root, outside = tmp_path / "results", tmp_path / "outside"
    (root / kind).parent.mkdir(parents=True)
    outside.mkdir()
    (root / kind).symlink_to(outside)
    with pytest.raises(UserError, match="leads out of the results root"):
        use_all(root)
    assert list(outside.iterdir()) == []


def use_all(root: Path) -> None:
    """Write at every kind of place below a results root."""
    store = Store(root)
    store.study("s")
    with store.scratch("search"), store.working(STEP), store.working_on("lm_eval", "s"):
        store.commit(STEP, lambda folder: (folder / "a.txt").write_text("a"), seconds=1.0)
    next(root.glob("store/facts/*/a.txt")).write_text("damaged")
    fresh = Store(root)
    fresh.commit(STEP, lambda folder: (folder / "a.txt").write_text("a"), seconds=1.0)


def test_all_places_are_used_where_no_link_leads_out(tmp_path: Path) -> None:
    use_all(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"store", "work", "damaged", "s"}


def test_log_and_links_of_a_study_stay_inside(tmp_path: Path) -> None:
    root, outside = tmp_path / "results", tmp_path / "outside"
    (root / "store").mkdir(parents=True)
    outside.mkdir()
    folder = Store(root).study("s")
    (folder.path / "kp.log").symlink_to(outside / "profile")
    (folder.path / "trials").symlink_to(outside)
    with pytest.raises(UserError, match="leads out"):
        _ = folder.log
    with pytest.raises(UserError, match="leads out"):
        folder.link("trials/a", root / "store")
    assert list(outside.iterdir()) == []


def test_names_in_facts_make_no_file_outside_the_results_root(tmp_path: Path) -> None:
    names = ("../../x", "/abs", "a/../../b", "$(touch x)", "..", "con\\..\\x")
    rows = [
        {"question": f"Q{number} {name}?", "answer": f"a{number}", "relation": name, "subject": name, "fact_id": f"{name}{number}"}
        for number, name in enumerate(names * 4)
    ]
    inside = tmp_path / "deep" / "deeper"
    inside.mkdir(parents=True)
    source = inside / "facts.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = load_study(SMOKE, [f"facts.source={source}", "facts.count=12", "facts.relations=[]"])
    assert describe_study_facts(config, inside / "results") == 0
    outside = [path for path in tmp_path.rglob("*") if not path.is_relative_to(inside) and path != inside.parent]
    assert outside == []
    assert {path.name for path in inside.iterdir()} == {"facts.jsonl", "results"}
    assert not any(".." in path.name or "abs" in path.name for path in inside.rglob("*"))
