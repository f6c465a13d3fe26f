"""What a study needs around it: a cluster whose nodes are fit for it, and files of the Hub for runs without a network."""

from pathlib import Path

import tyro

from kp.commands.application import File, Overrides, study_command


def _doctor(file: tyro.conf.Positional[File], overrides: tyro.conf.Positional[Overrides] = (), results: Path = Path("runs")) -> int:
    """Look at every node of the cluster before a study runs there: packages, shared results folder, disk, clocks. Takes seconds.

    Args:
        file: The study.
        overrides: Config values that replace the file's, such as resources.workers_per_trial=2.
        results: Folder of all studies' results; on a cluster one that every node shares, or a bucket such as s3://bucket/kp.
    """
    from kp.config.study import load_study
    from kp.study.doctoring import diagnose

    return diagnose(load_study(file, list(overrides)), results)


def _prefetch(
    file: tyro.conf.Positional[File],
    overrides: tyro.conf.Positional[Overrides] = (),
    to: Path = Path("prefetched"),
) -> int:
    """Bring everything that a study takes from the Hub into a folder, for runs without a network.

    Args:
        file: The study.
        overrides: Config values that replace the file's, such as model.name=meta-llama/Llama-3.2-1B-Instruct.
        to: The folder, which may hold what other studies need; run the study with resources.prefetched=FOLDER.
    """
    from kp.config.study import load_study
    from kp.study.prefetching import prefetch_study

    return prefetch_study(load_study(file, list(overrides)), to)


def add() -> None:
    """Add these commands to the application."""
    study_command("doctor", _doctor)
    study_command("prefetch", _prefetch)
