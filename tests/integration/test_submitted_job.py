"""An entry point submitted to a running Ray cluster joins that cluster, and re-uses what is already in the shared results."""

import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, SMOKE


@pytest.mark.timeout(600)
def test_submitted_study_joins_the_cluster_and_measures_only_what_changed(smoke_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    import sys

    import ray
    from ray.job_submission import JobStatus, JobSubmissionClient

    context = ray.init(address="local", num_cpus=4, include_dashboard=True)
    try:
        client = JobSubmissionClient(f"http://{context.dashboard_url}")
        overrides = "evaluate.misconceptions=5 evaluate.mmlu_dev=0"
        entrypoint = f"{sys.executable} {REPOSITORY}/ray_jobs/study.py {SMOKE} {overrides} --results {smoke_copy}"
        job = client.submit_job(entrypoint=entrypoint)
        while not client.get_job_status(job).is_terminal():
            time.sleep(1)
        logs = client.get_job_logs(job)
        assert client.get_job_status(job) == JobStatus.SUCCEEDED, logs
    finally:
        ray.shutdown()
    assert "search: 3 of 3 trials already done, not redone" in logs
    assert "evaluate: 4 models measured" in logs
    assert "\x1b[" not in logs
