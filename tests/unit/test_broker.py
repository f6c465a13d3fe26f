"""Trials are handed to crews, their epochs up, and the word to go on or stop down; whoever dies finds things as they were."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from kp.search.broker import MOST_ATTEMPTS, Broker, Order, Word
from kp.vocabulary import TrialStatus

Result = TypeVar("Result")


async def soon(question: Awaitable[Result]) -> Result:
    return await asyncio.wait_for(question, timeout=5)


async def is_open(question: Awaitable[object]) -> bool:
    """Whether there is no answer yet."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(question)), timeout=0.05)
    return True


def test_take_all_workers_of_a_crew_are_told_the_same_and_another_crew_something_else() -> None:
    async def story() -> None:
        broker = Broker()
        for trial in ("a", "b"):
            await broker.offer(trial)
        first = await asyncio.gather(broker.take("one", "life", 0), broker.take("one", "life", 0))
        assert first == [Order("a", 1), Order("a", 1)]
        assert await soon(broker.take("two", "life", 0)) == Order("b", 1)

    asyncio.run(story())


def test_take_with_nothing_offered_waits_without_keeping_others_out() -> None:
    async def story() -> None:
        broker = Broker()
        waiting = [asyncio.ensure_future(broker.take(crew, "life", 0)) for crew in ("one", "two")]
        await asyncio.sleep(0)
        await soon(broker.offer("a"))
        await soon(broker.offer("b"))
        orders = [await soon(question) for question in waiting]
        assert sorted(order.trial_id for order in orders if order) == ["a", "b"]

    asyncio.run(story())


def test_close_sends_home_whoever_has_nothing_left_to_take() -> None:
    async def story() -> None:
        broker = Broker()
        await broker.offer("a")
        await broker.close()
        assert await soon(broker.take("one", "life", 0)) == Order("a", 1)
        await broker.ended("a", TrialStatus.COMPLETED, "done")
        assert await soon(broker.take("one", "life", 1)) is None

    asyncio.run(story())


def test_word_waits_for_the_epoch_it_was_asked_about() -> None:
    async def story() -> None:
        broker = Broker()
        await broker.offer("a")
        await broker.take("one", "life", 0)
        await broker.tell("a", 1, {"epoch": 1})
        asked = asyncio.ensure_future(broker.word("a", 1))
        assert await is_open(asked)
        assert await soon(broker.heard("a", 0)) == [{"epoch": 1}]
        await broker.go_on("a", 1)
        assert await soon(asked) is Word.GO_ON
        assert await is_open(broker.word("a", 2))

    asyncio.run(story())


def test_stop_ends_a_trial_for_its_workers_and_keeps_the_words_of_before() -> None:
    async def story() -> None:
        broker = Broker()
        await broker.offer("a")
        await broker.take("one", "life", 0)
        for epoch in (1, 2):
            await broker.tell("a", epoch, {"epoch": epoch})
        await broker.go_on("a", 1)
        asked = asyncio.ensure_future(broker.word("a", 2))
        account = await broker.stop("a")
        assert account.status is None
        assert await soon(asked) is Word.STOP
        assert await soon(broker.word("a", 1)) is Word.GO_ON

    asyncio.run(story())


def test_stop_of_a_trial_that_ended_by_itself_gives_that_end() -> None:
    async def story() -> None:
        broker = Broker()
        await broker.offer("a")
        await broker.take("one", "life", 0)
        await broker.ended("a", TrialStatus.DIVERGED, "the loss is nan")
        account = await broker.stop("a")
        assert (account.status, account.cause) == (TrialStatus.DIVERGED, "the loss is nan")

    asyncio.run(story())


def test_take_in_a_new_life_goes_on_with_what_the_crew_had_until_it_is_too_often() -> None:
    async def story() -> None:
        broker = Broker()
        await broker.offer("a")
        await broker.offer("b")
        for life in range(MOST_ATTEMPTS):
            assert await soon(broker.take("one", str(life), 0)) == Order("a", life + 1)
        assert await soon(broker.take("one", "last", 0)) == Order("b", 1)
        account = await broker.stop("a")
        assert account.status is TrialStatus.FAILED
        assert "died 3 times" in str(account.cause)

    asyncio.run(story())


def test_tell_an_epoch_again_after_a_resume_is_heard_once_and_its_word_still_holds() -> None:
    async def story() -> None:
        broker = Broker()
        await broker.offer("a")
        await broker.take("one", "life", 0)
        await broker.tell("a", 1, {"epoch": 1})
        await broker.go_on("a", 1)
        await broker.take("one", "next", 0)
        await broker.tell("a", 1, {"epoch": 1})
        assert await soon(broker.heard("a", 0)) == [{"epoch": 1}]
        assert await soon(broker.word("a", 1)) is Word.GO_ON

    asyncio.run(story())


def test_heard_of_an_ended_trial_is_nothing_more() -> None:
    async def story() -> None:
        broker = Broker()
        await broker.offer("a")
        await broker.take("one", "life", 0)
        await broker.tell("a", 1, {"epoch": 1})
        await broker.ended("a", TrialStatus.COMPLETED, None)
        assert await soon(broker.heard("a", 0)) == [{"epoch": 1}]
        assert await soon(broker.heard("a", 1)) == []

    asyncio.run(story())


def test_broken_for_want_of_memory_is_not_tried_again() -> None:
    async def story() -> None:
        broker = Broker()
        await broker.offer("a")
        await broker.offer("b")
        await broker.take("one", "life", 0)
        await broker.broken("one", ["ActorDiedError: the worker died", "OutOfMemoryError: task was killed, node running low on memory"])
        assert await soon(broker.take("one", "next", 0)) == Order("b", 1)
        assert (await broker.stop("a")).status is TrialStatus.OUT_OF_MEMORY

    asyncio.run(story())


def test_offer_twice_is_taken_once() -> None:
    async def story() -> None:
        broker = Broker()
        await broker.offer("a")
        await broker.offer("a")
        await broker.take("one", "life", 0)
        assert await is_open(broker.take("two", "life", 0))

    asyncio.run(story())


def test_abandon_fails_what_has_not_ended_and_what_is_offered_later() -> None:
    async def story() -> None:
        broker = Broker()
        for trial in ("a", "b"):
            await broker.offer(trial)
        await broker.take("one", "life", 0)
        await broker.ended("a", TrialStatus.COMPLETED, "done")
        await broker.abandon("no worker starts")
        await broker.offer("c")
        assert [(await broker.stop(trial)).cause for trial in ("a", "b", "c")] == ["done", "no worker starts", "no worker starts"]

    asyncio.run(story())
