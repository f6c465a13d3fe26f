"""Trials as runs of one MLflow experiment.

Runs are made through MLflow's client, which has no active run of the process, because trials run concurrently. A trial's run is found again
by its tag. Epochs that it already has are left out, because MLflow would plot them twice.
"""

import os
import time
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from kp.trackers.knobs import failed, plain

TRIAL_TAG = "kp.trial_id"
STUDY_TAG = "kp.study"
IMPATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""MLflow's defaults of 120 s and 7 retries would delay a study for minutes if a server is gone; values set by the user are kept."""


class MlflowRuns:
    """One run per trial in the experiment `project`, at `uri` or MLflow's default location."""

    def __init__(self, project: str, study: str, uri: str | None) -> None:
        for name, value in IMPATIENCE.items():
            os.environ.setdefault(name, value)
        self._client = MlflowClient(uri)
        self._study = study
        found = self._client.get_experiment_by_name(project)
        self._experiment: str = found.experiment_id if found else self._client.create_experiment(project)
        self._runs: dict[str, str] = {}  # trial_id -> run id
        self._last_epoch: dict[str, int] = {}  # trial_id -> the last epoch that its run has

    def started(self, trial_id: str, knobs: Mapping[str, Any]) -> None:
        """Start or resume the trial's run."""
        found = self._client.search_runs([self._experiment], f"tags.`{TRIAL_TAG}` = '{trial_id}'", max_results=1)
        if found:
            run = found[0]
            self._client.update_run(run.info.run_id, status="RUNNING")
        else:
            tags = {TRIAL_TAG: trial_id, STUDY_TAG: self._study}
            run = self._client.create_run(self._experiment, tags=tags, run_name=trial_id[:8])
            params = [Param(name, str(plain(value))) for name, value in knobs.items() if value is not None]
            self._client.log_batch(run.info.run_id, params=params)
        self._runs[trial_id] = run.info.run_id
        self._last_epoch[trial_id] = int(run.data.metrics.get("epoch", 0))

    def epoch(self, trial_id: str, measured: Mapping[str, float]) -> None:
        """Log at step = epoch."""
        epoch = int(measured["epoch"])
        if epoch > self._last_epoch[trial_id]:
            now = int(1000 * time.time())
            metrics = [Metric(name, float(value), now, epoch) for name, value in measured.items()]
            self._client.log_batch(self._runs[trial_id], metrics=metrics)
            self._last_epoch[trial_id] = epoch

    def ended(self, trial_id: str, status: str, cause: str | None) -> None:
        """Set status and cause as tags and end the run."""
        run_id = self._runs.pop(trial_id)
        self._client.log_batch(run_id, tags=[RunTag("kp.status", status), RunTag("kp.cause", cause or "")])
        self._client.set_terminated(run_id, "FAILED" if failed(status) else "FINISHED")

    def close(self) -> None:
        """End the runs of interrupted trials as killed; they can still be resumed."""
        while self._runs:
            self._client.set_terminated(self._runs.popitem()[1], "KILLED")
