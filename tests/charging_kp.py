"""`kp` whose trials fail at the first failure that is charged to them: python -m tests.charging_kp COMMAND ...

In a study a trial may fail a few times before it counts as failed, so that a loss that is charged by mistake would go unnoticed.
"""

from kp.cli import main
from kp.search import worker_groups
from kp.search.trial_queue import TrialQueue, WorkerReport
from kp.vocabulary import TrialStatus


class ChargingQueue(TrialQueue):
    """Ends a trial at its first failure."""

    def _failed(self, group: str, cause: str, stderr: str = "") -> None:
        held = self._groups[group].held
        assert held is not None
        self._end(held, WorkerReport(TrialStatus.FAILED, f"charged: {cause}", 0.0, stderr=stderr))


if __name__ == "__main__":
    worker_groups.TrialQueue = ChargingQueue  # type: ignore[misc]
    main()
