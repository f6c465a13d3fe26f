"""The count that actors pass on and a bar follows, in a real Ray."""

import itertools
import re
from contextlib import suppress
from threading import Event
from types import SimpleNamespace

import pytest

from kp.cluster.tally import Tally
from kp.progress import Bar

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which ten seconds go by between any two looks at it: every amount is passed on at once."""
    monkeypatch.setattr("kp.cluster.tally.time", SimpleNamespace(monotonic=itertools.count(step=10).__next__))


class DiedError(Exception):
    """What ends an actor."""


@pytest.mark.usefixtures("hurried")
def test_tally_of_a_part_that_is_begun_anew_does_not_count_twice_what_was_lost() -> None:
    tally = Tally("s", "categorise")
    with suppress(DiedError), tally.counting("first") as count:
        count(7)
        raise DiedError
    assert tally.get() == 7

    with tally.counting("first") as count:
        count(3)
        assert tally.get() == 3
        count(7)
    with tally.counting("second") as count:
        count(5)

    assert tally.get() == 15


def test_tally_passes_small_amounts_on_no_later_than_at_the_end_of_their_part() -> None:
    tally = Tally("s", "categorise")
    with tally.counting("first") as count:
        for _ in range(60):
            count(1)
    assert tally.get() == 60


def test_tally_shown_on_a_bar_goes_on_from_what_an_earlier_run_did() -> None:
    tally, bar = Tally("s", "categorise"), Bar(100, "prompts")
    with tally.shown_on(bar, 40, print):
        assert (bar.done, bar.rate()) == (40, 0.0)
        with tally.counting("first") as count:
            count(25)
    assert bar.done == 65


def test_tally_of_which_nothing_comes_tells_what_the_cluster_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kp.cluster.tally.POLL_SECONDS", 0.05)
    monkeypatch.setattr("kp.cluster.tally.QUIET_SECONDS", 0.1)
    told, heard = Event(), []

    def note(text: str) -> None:
        heard.append(text)
        told.set()

    with Tally("s", "categorise").shown_on(Bar(100, "prompts"), 0, note):
        assert told.wait(30)
    assert re.match(r"nothing was answered for \d+ s; cluster: 1 node, no GPUs, ", heard[0])
