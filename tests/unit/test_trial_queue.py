"""Worker groups are handed trials, epochs go up and decisions to continue or stop down; whoever dies finds things as they were."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from kp.errors import UserError
from kp.search.trial_queue import MOST_ATTEMPTS, Decision, TrialAssignment, TrialQueue
from kp.vocabulary import TrialStatus

Result = TypeVar("Result")


async def soon(question: Awaitable[Result]) -> Result:
    return await asyncio.wait_for(question, timeout=5)


async def is_open(question: Awaitable[object]) -> bool:
    """Whether there is no answer yet."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(question)), timeout=0.05)
    return True


def test_next_trial_is_the_same_for_all_workers_of_a_worker_group_and_another_for_the_next() -> None:
    async def story() -> None:
        queue = TrialQueue()
        for trial in ("a", "b"):
            await queue.submit(trial)
        first = await asyncio.gather(queue.next_trial("one", "life", 0), queue.next_trial("one", "life", 0))
        assert first == [TrialAssignment("a", 1), TrialAssignment("a", 1)]
        assert await soon(queue.next_trial("two", "life", 0)) == TrialAssignment("b", 1)

    asyncio.run(story())


def test_next_trial_with_nothing_submitted_waits_without_keeping_others_out() -> None:
    async def story() -> None:
        queue = TrialQueue()
        waiting = [asyncio.ensure_future(queue.next_trial(group, "life", 0)) for group in ("one", "two")]
        await asyncio.sleep(0)
        await soon(queue.submit("a"))
        await soon(queue.submit("b"))
        assignments = [await soon(question) for question in waiting]
        assert sorted(assignment.trial_id for assignment in assignments if assignment) == ["a", "b"]

    asyncio.run(story())


def test_close_ends_whoever_has_no_trial_left() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        await queue.close()
        assert await soon(queue.next_trial("one", "life", 0)) == TrialAssignment("a", 1)
        await queue.report_end("a", TrialStatus.COMPLETED, "done")
        assert await soon(queue.next_trial("one", "life", 1)) is None

    asyncio.run(story())


def test_wait_for_decision_waits_for_that_of_its_epoch() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        await queue.next_trial("one", "life", 0)
        await queue.report_epoch("a", 1, {"epoch": 1})
        asked = asyncio.ensure_future(queue.wait_for_decision("a", 1))
        assert await is_open(asked)
        assert await soon(queue.wait_for_epochs("a", 0)) == [{"epoch": 1}]
        await queue.let_continue("a", 1)
        assert await soon(asked) is Decision.CONTINUE
        assert await is_open(queue.wait_for_decision("a", 2))

    asyncio.run(story())


def test_stop_ends_a_trial_for_its_workers_and_keeps_earlier_decisions() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        await queue.next_trial("one", "life", 0)
        for epoch in (1, 2):
            await queue.report_epoch("a", epoch, {"epoch": epoch})
        await queue.let_continue("a", 1)
        asked = asyncio.ensure_future(queue.wait_for_decision("a", 2))
        report = await queue.stop("a")
        assert report.status is None
        assert await soon(asked) is Decision.STOP
        assert await soon(queue.wait_for_decision("a", 1)) is Decision.CONTINUE

    asyncio.run(story())


def test_stop_of_a_trial_that_ended_by_itself_gives_that_end() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        await queue.next_trial("one", "life", 0)
        await queue.report_end("a", TrialStatus.DIVERGED, "the loss is nan")
        report = await queue.stop("a")
        assert (report.status, report.cause) == (TrialStatus.DIVERGED, "the loss is nan")

    asyncio.run(story())


def test_next_trial_in_a_new_life_is_the_unfinished_one_until_it_is_too_often() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        await queue.submit("b")
        for life in range(MOST_ATTEMPTS):
            assert await soon(queue.next_trial("one", str(life), 0)) == TrialAssignment("a", life + 1)
        assert await soon(queue.next_trial("one", "last", 0)) == TrialAssignment("b", 1)
        report = await queue.stop("a")
        assert report.status is TrialStatus.FAILED
        assert "died 3 times" in str(report.cause)

    asyncio.run(story())


def test_report_epoch_again_after_a_resume_counts_once_and_its_decision_still_holds() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        await queue.next_trial("one", "life", 0)
        await queue.report_epoch("a", 1, {"epoch": 1})
        await queue.let_continue("a", 1)
        await queue.next_trial("one", "next", 0)
        await queue.report_epoch("a", 1, {"epoch": 1})
        assert await soon(queue.wait_for_epochs("a", 0)) == [{"epoch": 1}]
        assert await soon(queue.wait_for_decision("a", 1)) is Decision.CONTINUE

    asyncio.run(story())


def test_wait_for_epochs_of_an_ended_trial_gives_nothing_more() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        await queue.next_trial("one", "life", 0)
        await queue.report_epoch("a", 1, {"epoch": 1})
        await queue.report_end("a", TrialStatus.COMPLETED, None)
        assert await soon(queue.wait_for_epochs("a", 0)) == [{"epoch": 1}]
        assert await soon(queue.wait_for_epochs("a", 1)) == []

    asyncio.run(story())


def test_workers_died_out_of_memory_is_not_tried_again() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        await queue.submit("b")
        await queue.next_trial("one", "life", 0)
        await queue.workers_died(
            "one", ["ActorDiedError: the worker died", "OutOfMemoryError: task was killed, node running low on memory"]
        )
        assert await soon(queue.next_trial("one", "next", 0)) == TrialAssignment("b", 1)
        assert (await queue.stop("a")).status is TrialStatus.OUT_OF_MEMORY

    asyncio.run(story())


def test_submit_twice_is_assigned_once() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        await queue.submit("a")
        await queue.next_trial("one", "life", 0)
        assert await is_open(queue.next_trial("two", "life", 0))

    asyncio.run(story())


def test_abandon_fails_what_has_not_ended_and_what_is_submitted_later() -> None:
    async def story() -> None:
        queue = TrialQueue()
        for trial in ("a", "b"):
            await queue.submit(trial)
        await queue.next_trial("one", "life", 0)
        await queue.report_end("a", TrialStatus.COMPLETED, "done")
        await queue.abandon("no worker starts")
        await queue.submit("c")
        assert [(await queue.stop(trial)).cause for trial in ("a", "b", "c")] == ["done", "no worker starts", "no worker starts"]

    asyncio.run(story())


def test_refusals_of_a_trial_and_of_all_workers_are_in_the_reports() -> None:
    async def story() -> None:
        queue, bad, gone = TrialQueue(), UserError("bad", field="facts.source"), UserError("gone", field="model.name")
        for trial in ("a", "b"):
            await queue.submit(trial)
        await queue.report_end("a", TrialStatus.FAILED, str(bad), bad)
        await queue.abandon(str(gone), gone)
        await queue.submit("c")
        assert [(await queue.stop(trial)).refusal for trial in ("a", "b", "c")] == [bad, gone, gone]

    asyncio.run(story())
