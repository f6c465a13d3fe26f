"""What `auto` stands for in a study: choices by the speed of the machine, settled when the study begins and kept in its folder.

They change how numbers are rounded, so a study that goes on, on whatever machine, keeps those that it began with.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kp.config.study import StudyConfig
from kp.models.loading import small_files
from kp.models.machine_speed import attention_rates, product_rates, sees_gpu
from kp.store.filenames import MACHINE_CHOICES_FILE
from kp.store.files import read_json, write_json
from kp.store.hardware import hardware
from kp.vocabulary import Attention

AUTO = "auto"
_FIELDS = (("model", "dtype"), ("resources", "attention"))
_KINDS: dict[str, Callable[[str], str]] = {"dtype": str, "attention": Attention}


def with_machine_choices(config: StudyConfig, root: Path, note: Callable[[str], None], fetch: bool, trains: bool = True) -> StudyConfig:
    """The study with what it began with, or begins with on this machine, instead of `auto`; with `fetch`, the small files of a Hub model
    are fetched for its shapes."""
    kept = read_json(root / config.name / MACHINE_CHOICES_FILE) or {}
    for section, name in _FIELDS:
        field = f"{section}.{name}"
        if getattr(getattr(config, section), name) != AUTO:
            continue
        if field in kept:
            value, why = _KINDS[name](kept[field]), f"with which this study began on {kept['processor']}"
        else:
            value, why = (_dtype if name == "dtype" else _attention)(config, fetch)
        if trains or name != "attention":
            note(f"{field}: {value}, {why}")
        config = _with(config, section, name, value)
    return config


def keep_machine_choices(asked: StudyConfig, config: StudyConfig, folder: Path) -> None:
    """Write down what `auto` stands for, unless that is done; `asked` is the study before it was settled."""
    file = folder / MACHINE_CHOICES_FILE
    kept = read_json(file) or {}
    chosen = {
        f"{section}.{name}": str(getattr(getattr(config, section), name))
        for section, name in _FIELDS
        if getattr(getattr(asked, section), name) == AUTO
    }
    if chosen.keys() - kept.keys():
        write_json(file, {"processor": hardware()["processor"], **chosen, **kept})


def _dtype(config: StudyConfig, fetch: bool) -> tuple[str, str]:
    if _on_gpu(config):
        return "bfloat16", "as on any GPU"
    folder = small_files(config.model, fetch)
    if folder is None:
        return "float32", "until the model is here and its products are timed"
    rates = product_rates(folder)
    faster, slower = sorted(rates, key=lambda name: -rates[name])
    return faster, f"in which this machine multiplies at {rates[faster]:.0f} GFLOP/s, in {slower} at {rates[slower]:.0f}"


def _attention(config: StudyConfig, fetch: bool) -> tuple[Attention, str]:
    if _on_gpu(config):
        return Attention.SDPA, "as on any GPU"
    folder = small_files(config.model, fetch)
    if folder is None:
        return Attention.SDPA, "until the model is here and its attention is timed"
    seconds = attention_rates(folder, config.model.dtype)
    faster, slower = sorted(Attention(name) for name in seconds)
    if seconds[faster] > seconds[slower]:
        faster, slower = slower, faster
    return faster, f"which takes {seconds[faster] / seconds[slower]:.0%} of the time of {slower} on short rows here"


def _on_gpu(config: StudyConfig) -> bool:
    return config.resources.gpu or (config.resources.gpu is None and sees_gpu())


def _with(config: StudyConfig, section: str, name: str, value: Any) -> StudyConfig:
    return config.model_copy(update={section: getattr(config, section).model_copy(update={name: value})})
