"""An entry point submitted to a running Ray cluster joins that cluster, and re-uses what is already in the shared results."""

import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

POLL_SECONDS = 0.2


@pytest.mark.usefixtures("local_ray")
def test_submitted_study_joins_the_cluster_and_measures_only_what_changed(tiny_copy: Path, tiny_study: Path) -> None:
    import ray
    from ray.job_submission import JobStatus, JobSubmissionClient

    client = JobSubmissionClient(f"http://{ray.init(ignore_reinit_error=True).dashboard_url}")
    entrypoint = f"{sys.executable} {REPOSITORY}/ray_jobs/study.py {tiny_study} evaluate.misconceptions=3 --results {tiny_copy}"
    job = client.submit_job(entrypoint=entrypoint)
    while not client.get_job_status(job).is_terminal():
        time.sleep(POLL_SECONDS)
    logs = client.get_job_logs(job)
    assert client.get_job_status(job) == JobStatus.SUCCEEDED, logs
    assert "search: 3 of 3 trials already done, not redone" in logs
    assert "evaluate: 4 models measured" in logs
    assert "\x1b[" not in logs
