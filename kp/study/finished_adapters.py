"""The adapters that a study has saved, found as a user names them: by the beginning of a trial's id, or by its label.

Only the study's folder is read, so no model is probed and nothing is fetched: an adapter is there, or it is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.report.labels import STOPPED_MARK
from kp.store import files, roots

TRIAL_FIELD = "TRIAL"  # the argument, in messages
SUMMARY = Path("report", "tables", "summary.parquet")


@dataclass(frozen=True)
class FoundAdapter:
    """A saved adapter: its name (the trial's id, with `@0.5` for another scale) and its folder in PEFT's format."""

    name: str
    folder: Path

    @property
    def trial_id(self) -> str:
        """The trial that trained it."""
        return self.name.partition("@")[0]

    @property
    def scaled(self) -> bool:
        """Whether it is a trial's adapter at another scale than it was trained with."""
        return "@" in self.name


def study_folder(config: StudyConfig, root: Path) -> Path:
    """The folder of a study that was run; raises UserError if there is none."""
    folder = roots.existing_results_root(root) / config.name
    if not folder.is_dir():
        raise UserError(f"{root}: holds no study '{config.name}'; name the folder with which it was run", field=files.ROOT_FIELD)
    return folder


def find_adapter(study: Path, wanted: str) -> FoundAdapter:
    """The one adapter of a study's folder that `wanted` names; raises UserError listing those that exist."""
    saved = sorted(path.name for path in (study / "adapters").glob("*") if path.is_dir())
    labels = _labels(study)
    found = _named(saved, wanted) or [name for name in saved if labels.get(name) == wanted.removesuffix(STOPPED_MARK).strip()]
    if wanted and len(found) == 1:
        return FoundAdapter(found[0], study / "adapters" / found[0])
    listed = "".join(f"\n  {name}  {labels.get(name, '')}".rstrip() for name in found or saved) or " none yet"
    reason = "names several adapters" if wanted and found else "names no adapter of this study"
    raise UserError(f"'{wanted}' {reason}; {'these' if found else 'there are'}:{listed}", field=TRIAL_FIELD)


def _named(saved: list[str], wanted: str) -> list[str]:
    """Those whose id begins so, at the scale that stands behind the `@`; without one, as trained."""
    if wanted in saved:
        return [wanted]
    beginning, _, scale = wanted.partition("@")
    return [name for name in saved if name.startswith(beginning) and name.partition("@")[2] == scale]


def _labels(study: Path) -> Mapping[str, str]:
    """The label of each trial in the study's report, without the mark of a stopped one; empty before there is a report."""
    if not (study / SUMMARY).is_file():
        return {}
    summary = pl.read_parquet(study / SUMMARY, columns=["trial_id", "label"])
    return {trial_id: label.removesuffix(STOPPED_MARK).strip() for trial_id, label in summary.iter_rows()}
