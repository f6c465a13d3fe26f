"""What `model.dtype = "auto"` stands for in a study: settled when it begins, and kept in its folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kp.config.study import StudyConfig
from kp.models.loading import small_files
from kp.models.number_format import product_rates, sees_gpu
from kp.store.filenames import NUMBER_FORMAT_FILE
from kp.store.files import read_json, write_json
from kp.store.hardware import hardware

AUTO = "auto"


def with_number_format(config: StudyConfig, root: Path, note: Callable[[str], None], fetch: bool) -> StudyConfig:
    """The study with the format that it began with, or that it begins with on this machine, instead of `auto`; with `fetch`, the small
    files of a Hub model are fetched for its shapes."""
    if config.model.dtype != AUTO:
        return config
    kept = read_json(root / config.name / NUMBER_FORMAT_FILE)
    if kept:
        note(f"model.dtype: {kept['dtype']}, with which this study began on {kept['processor']}")
        return _with(config, kept["dtype"])
    dtype, why = _chosen(config, fetch)
    note(f"model.dtype: {dtype}, {why}")
    return _with(config, dtype)


def keep_number_format(asked: StudyConfig, config: StudyConfig, folder: Path) -> None:
    """Write down what `auto` stands for, unless that is done; `asked` is the study before it was settled."""
    file = folder / NUMBER_FORMAT_FILE
    if asked.model.dtype == AUTO and not file.is_file():
        write_json(file, {"dtype": config.model.dtype, "processor": hardware()["processor"]})


def _chosen(config: StudyConfig, fetch: bool) -> tuple[str, str]:
    """The format and why."""
    if config.resources.gpu or (config.resources.gpu is None and sees_gpu()):
        return "bfloat16", "as on any GPU"
    folder = small_files(config.model, fetch)
    if folder is None:
        return "float32", "until the model is here and its products are timed"
    rates = product_rates(folder)
    faster, slower = sorted(rates, key=lambda name: -rates[name])
    return faster, f"in which this machine multiplies at {rates[faster]:.0f} GFLOP/s, in {slower} at {rates[slower]:.0f}"


def _with(config: StudyConfig, dtype: str) -> StudyConfig:
    changed: dict[str, Any] = {"dtype": dtype}
    return config.model_copy(update={"model": config.model.model_copy(update=changed)})
