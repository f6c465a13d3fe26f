"""Worker groups are handed trials, epochs go up and decisions to continue or stop down; whoever dies finds things as they were."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from kp.errors import UserError
from kp.search.trial_queue import MOST_ATTEMPTS, Decision, TrialAssignment, TrialQueue, WorkerDeath, out_of_memory
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


def died(group: str, queue: TrialQueue, error: str = "ActorDiedError: the worker died") -> Awaitable[None]:
    return queue.workers_died(group, [WorkerDeath(error)])


def test_trial_whose_workers_die_without_an_epoch_in_between_fails_after_the_third_time() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        for life in range(MOST_ATTEMPTS):
            assert await soon(queue.next_trial("one", str(life), 0)) == TrialAssignment("a", life + 1)
            await died("one", queue)
        report = await queue.stop("a")
        assert report.status is TrialStatus.FAILED
        assert (
            report.cause == "failed 3 times without an epoch in between, at last because its workers died: ActorDiedError: the worker died"
        )

    asyncio.run(story())


def test_epoch_between_the_failures_of_a_trial_forgets_them() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        for life in range(3 * MOST_ATTEMPTS):
            assert await soon(queue.next_trial("one", str(life), 0)) == TrialAssignment("a", life + 1)
            await queue.report_epoch("a", life + 1, {"epoch": life + 1})
            await died("one", queue)
        assert (await queue.stop("a")).status is None

    asyncio.run(story())


@pytest.mark.parametrize(
    "error",
    [
        "ActorDiedError: The actor died because its node has died. Node Id: 1234",
        "WorkerHealthCheckFailedError: The actor is temporarily unavailable: RPC error",
    ],
)
def test_loss_of_a_node_is_charged_neither_to_the_trial_nor_to_the_group(error: str) -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        for life in range(3 * MOST_ATTEMPTS):
            assert await soon(queue.next_trial("one", str(life), 0)) == TrialAssignment("a", life + 1)
            await died("one", queue, error)
        assert not (await queue.group_ended("one")).is_retired
        assert (await queue.stop("a")).status is None

    asyncio.run(story())


def test_trial_of_a_group_that_is_lost_goes_to_another() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        await queue.next_trial("one", "life", 0)
        waiting = asyncio.ensure_future(queue.next_trial("two", "life", 0))
        assert await is_open(waiting)
        end = await queue.group_ended("one")
        assert (end.is_retired, end.is_over, end.epochs) == (False, False, 0)
        assert await soon(waiting) == TrialAssignment("a", 2)

    asyncio.run(story())


def test_group_that_fails_on_two_trials_in_a_row_is_retired_and_its_trials_are_moved() -> None:
    async def story() -> None:
        queue = TrialQueue()
        for trial in ("a", "b", "c"):
            await queue.submit(trial)
        for life, trial in enumerate(("a", "b")):  # not a again, so that it shows whether the trial or the group is broken
            assert await soon(queue.next_trial("bad", str(life), 0)) == TrialAssignment(trial, 1)
            for _ in range(2):  # both workers of the group tell of it
                await queue.attempt_failed("bad", trial, "CUDA error: an illegal memory access was encountered")
        assert await soon(queue.next_trial("bad", "2", 0)) is None
        end = await queue.group_ended("bad")
        assert (end.is_retired, end.cause) == (True, "CUDA error: an illegal memory access was encountered")
        taken = [await soon(queue.next_trial("good", "life", turn)) for turn in range(1)]
        for turn in range(1, 3):
            assert taken[-1] is not None
            await queue.report_end(taken[-1].trial_id, TrialStatus.COMPLETED, None)
            taken.append(await soon(queue.next_trial("good", "life", turn)))
        assert taken == [TrialAssignment("b", 2), TrialAssignment("a", 2), TrialAssignment("c", 1)]

    asyncio.run(story())


def test_group_that_trains_an_epoch_after_a_failure_is_not_retired_by_the_next() -> None:
    async def story() -> None:
        queue = TrialQueue()
        for trial in ("a", "b"):
            await queue.submit(trial)
        for life in range(4):
            assignment = await soon(queue.next_trial("one", str(life), 0))
            assert assignment is not None
            await queue.report_epoch(assignment.trial_id, life + 1, {"epoch": life + 1})
            await queue.attempt_failed("one", assignment.trial_id, "OSError: [Errno 5] Input/output error")
        end = await queue.group_ended("one")
        assert (end.is_retired, end.epochs) == (False, 4)

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
        memory = WorkerDeath("OutOfMemoryError: task was killed, node running low on memory", "node 10.0.0.5", "reading 9 GB")
        await queue.workers_died("one", [WorkerDeath("ActorDiedError: the worker died"), memory])
        assert await soon(queue.next_trial("one", "next", 0)) == TrialAssignment("b", 1)
        report = await queue.stop("a")
        assert report.status is TrialStatus.OUT_OF_MEMORY
        assert report.cause == "OutOfMemoryError: task was killed, node running low on memory (on node 10.0.0.5)"
        assert report.stderr == "reading 9 GB"

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


def test_death_of_a_worker_is_one_sentence_of_what_ray_says_and_its_node() -> None:
    text = (
        "WorkerHealthCheckFailedError: A worker health check failed.\nWorker info: Worker(\n  actor=Actor(RayTrainWorker, dd8a),\n)\n"
        "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: End of file. "
        "Some common causes include: (1) the process was killed by the OOM killer"
    )
    said = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: End of file."
    assert str(WorkerDeath(text, "node 10.0.0.5 (gpu-3), process 7")) == f"{said} (on node 10.0.0.5 (gpu-3), process 7)"
    assert str(WorkerDeath("OutOfMemoryError: too much")) == "OutOfMemoryError: too much"


def test_trial_out_of_memory_goes_on_with_half_the_rows_of_a_pass_and_is_charged_to_nobody() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        rows = [None, *(8 >> halved for halved in range(1, 4))]
        for life, most in enumerate(rows):
            assert await soon(queue.next_trial("one", str(life), 0)) == TrialAssignment("a", life + 1, most)
            assert (await queue.state()).halved == int(life > 0)
            for _ in range(2):  # both workers of the group say so
                await queue.ran_out_of_memory("one", "a", "CUDA out of memory (on node 10.0.0.5)", most or 8)
        report = await queue.stop("a")
        assert (report.status, report.cause) == (TrialStatus.OUT_OF_MEMORY, "CUDA out of memory (on node 10.0.0.5)")
        assert not (await queue.group_ended("one")).is_retired

    asyncio.run(story())


def test_trial_without_memory_for_its_model_is_not_tried_again() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        await queue.next_trial("one", "life", 0)
        await queue.ran_out_of_memory("one", "a", "CUDA out of memory", None)
        assert (await queue.stop("a")).status is TrialStatus.OUT_OF_MEMORY

    asyncio.run(story())


def test_wait_for_more_waits_for_a_trial_or_the_end_of_the_search() -> None:
    async def story() -> None:
        queue = TrialQueue()
        await queue.submit("a")
        await queue.next_trial("one", "life", 0)
        waiting = asyncio.ensure_future(queue.wait_for_more())
        assert await is_open(waiting)
        await queue.submit("b")
        assert await soon(waiting)
        await queue.next_trial("two", "life", 0)
        waiting = asyncio.ensure_future(queue.wait_for_more())
        await queue.close()
        assert not await soon(waiting)

    asyncio.run(story())


@pytest.mark.parametrize(
    "error",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "torch.AcceleratorError: CUDA error: out of memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "ray.exceptions.OutOfMemoryError: node running low on memory",
    ],
)
def test_out_of_memory_is_told_from_the_text_of_an_error(error: str) -> None:
    assert out_of_memory(error)


def test_out_of_memory_is_no_other_error_of_a_gpu() -> None:
    assert not out_of_memory("torch.AcceleratorError: CUDA error: an illegal memory access was encountered")
