"""Where the time of a run went: concurrent work counts once, an earlier run's not at all, and the rest is overhead."""

import itertools
import json

import pytest

from kp.inference.chunk_files import times_of
from kp.study.profile import LEAVING, START, Profile, Summary
from kp.vocabulary import Activity


def profiled(monkeypatch: pytest.MonkeyPatch) -> Profile:
    """A run that began at 100, whose parts begin every ten seconds."""
    clock = itertools.count(110.0, 10.0)
    monkeypatch.setattr("kp.study.profile.time.time", lambda: next(clock))
    return Profile(100.0)


@pytest.fixture
def summary(monkeypatch: pytest.MonkeyPatch) -> Summary:
    """Two actors that generate from 110 to 120, training with an evaluation, and scoring that overlaps with generation."""
    profile = profiled(monkeypatch)
    for part in ("categorise", "search", "evaluate", LEAVING):  # from 110, 120, 130 and 140
        profile.enter(part)
    profile.add(Activity.STARTING_RAY, [(100.0, 104.0)])
    profile.add(Activity.LOADING, [(104.0, 112.0), (105.0, 111.0)])
    profile.add(Activity.GENERATION, [(111.0, 118.0), (112.0, 120.0), (112.0, 119.0), (131.0, 136.0)])
    profile.add(Activity.GENERATION, [(10.0, 90.0)])  # by an earlier run
    profile.add(Activity.TRAINING, [[122.0, 125.0], [125.0, 129.0]])
    profile.add(Activity.EVALUATION, [[128.0, 129.0]])
    profile.add(Activity.SCORING, [(134.0, 139.0)])
    return profile.summary(ended=150.0)


def test_concurrent_work_counts_once_and_the_rest_is_overhead(summary: Summary) -> None:
    found = summary.all
    assert found.wall == 50
    assert found.seconds[Activity.GENERATION] == 9 + 5
    assert found.seconds[Activity.TRAINING] == 7
    assert found.seconds[Activity.SCORING] == 5
    assert found.computing == 9 + 7 + 8  # generation and scoring share two seconds
    assert (found.overhead, found.share) == (26, 26 / 50)


def test_overhead_by_what_was_done_leaves_out_what_happened_while_others_computed(summary: Summary) -> None:
    assert summary.all.known == {Activity.STARTING_RAY: 4, Activity.LOADING: 7, Activity.SETUP: 0}  # 111 to 112 computed


def test_parts_have_their_own_time_and_add_up_to_all(summary: Summary) -> None:
    assert [part.name for part in summary.parts] == [START, "categorise", "search", "evaluate", LEAVING]
    assert [part.wall for part in summary.parts] == [10, 10, 10, 10, 10]
    assert [part.computing for part in summary.parts] == [0, 9, 7, 8, 0]
    assert sum(part.overhead for part in summary.parts) == summary.all.overhead


def test_lines_tell_the_share_and_what_is_known_of_it(summary: Summary) -> None:
    assert summary.lines() == [
        "profile: overhead 26.0 of 50.0 s (52.0%), in which nothing was generated, trained or scored",
        "profile: of this starting Ray 4.0 s, loading models 7.0 s",
        "profile: training includes 1.0 s of evaluation",
    ]


def test_record_is_json_with_the_same_numbers(summary: Summary) -> None:
    found = json.loads(json.dumps(summary.record()))
    assert found["all"]["overhead_share"] == 0.52
    assert found["all"]["of_overhead"] == {"starting Ray": 4.0, "loading models": 7.0, "setting up trials": 0.0}
    assert [part["training"] for part in found["parts"]] == [0, 0, 7, 0, 0]


def test_run_that_computed_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = profiled(monkeypatch)
    profile.add(Activity.TRAINING, [(10.0, 90.0)])  # by an earlier run
    summary = profile.summary(ended=102.0)
    assert (summary.all.computing, summary.all.share) == (0, 1)
    assert summary.lines() == ["profile: 2.0 s, in which nothing was generated, trained or scored"]


def test_times_of_chunks_have_the_load_of_an_actor_once() -> None:
    load = {"load_began": 1.0, "load_ended": 2.0}
    times = times_of([{"began": 2.0, "ended": 3.0, **load}, {"began": 3.0, "ended": 5.0, **load}])
    assert times.working == ((2.0, 3.0), (3.0, 5.0))
    assert times.loading == ((1.0, 2.0),)
