"""A study to start from: study.toml with a comment above each key, and a table of facts beside it.

Its values are those of the study `own_facts` that ships with kp, or defaults, and its comments the docstrings below the fields, so nothing
here has to be kept in step with anything.
"""

import re
import shutil
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kp.config.docstrings import field_docstrings
from kp.config.study import ModelConfig, StudyConfig, study_of
from kp.config.study_files import shipped_studies
from kp.config.toml import toml_value
from kp.errors import UserError
from kp.facts.tables import read_source
from kp.facts.validation import check_facts
from kp.models.loading import describe_model, small_files
from kp.models.names import EMBEDDED
from kp.progress import Display
from kp.store.filenames import OWN_FOLDERS

STUDY, FACTS, PATTERN = "study.toml", "facts.csv", "own_facts"
SHOWN: dict[str, tuple[str, ...]] = {
    "model": ("name", "dtype"),
    "facts": ("source", "control_share", "control_unknown_share"),
    "categorise": ("max_new_tokens",),
    "search": ("unknown", "arms", "rank", "learning_rate", "seeds", "stop_at_accuracy", "stop_patience"),
    "training": ("epochs", "batch_size", "lora_alpha", "lora_dropout"),
    "evaluate": ("completions", "mmlu_dev", "misconceptions"),
    "report": ("margin",),
}
"""The keys that a starter has, by section: those of the study that it follows, and those that users change first."""
MOST_UNKNOWN = 100  # facts that the larger trial packs, if the table has more: what takes minutes with the embedded model
_WIDTH = 100
_OPENING = (
    "# A study for kp: `kp study {file} --dry-run` prints its plan and its price, `kp study {file}` runs it.\n"
    "# Every further key and what it means: study.py, search.py and resources.py in the folder kp/config of the installed package.\n"
)


def write_starter(folder: Path, model: str | None = None, facts: Path | None = None) -> int:
    """Write a study into a folder that is empty or made here; returns the exit code.

    `model` is named as in a study, by default the embedded one; `facts` is a table that the study reads instead of a sample. Raises
    UserError for `DIR`, `--model` or `--facts` before anything is written.
    """
    _validate_empty(folder)
    name = _usable_model(model or EMBEDDED)
    count = _count(facts) if facts is not None else None
    document = _document(folder, name, facts, count)
    folder.mkdir(parents=True, exist_ok=True)
    if facts is None:
        shutil.copyfile(_pattern().with_suffix(".csv"), folder / FACTS)
    (folder / STUDY).write_text(_OPENING.format(file=folder / STUDY) + "\n" + _commented(document), encoding="utf-8")
    display = Display()
    display.line(f"init: wrote {folder / STUDY}")
    if facts is None:
        display.line(f"init: wrote {folder / FACTS}, a sample: put your own facts in its place")
    display.line(f"init: next: kp study {folder / STUDY} --dry-run")
    return 0


def _validate_empty(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder that is empty or does not exist yet", field="DIR")
    if folder.is_dir() and (held := sorted(path.name for path in folder.iterdir())):
        raise UserError(f"{folder} holds {held[0]} already, and nothing is overwritten: name another folder", field="DIR")


def _usable_model(name: str) -> str:
    """The model's name as a study has it: a local folder as an absolute path, since studies are run from anywhere."""
    config, field = ModelConfig(name=name), "--model"
    describe_model(config, field)
    small_files(config, fetch=False, field=field)
    folder = Path(name).expanduser()
    return str(folder.resolve()) if name != EMBEDDED and folder.is_dir() else name


def _count(facts: Path) -> int:
    """The number of facts in the table that can be measured."""
    source = read_source(str(facts), "--facts")
    fit, _ = check_facts(
        source.facts, str(facts), StudyConfig.model_fields["facts"].default.max_rejected_fraction, source.rows, source.unread
    )
    return len(fit)


def _pattern() -> Path:
    return shipped_studies()[PATTERN]


def _document(folder: Path, model: str, facts: Path | None, count: int | None) -> dict[str, Any]:
    """The keys of the starter and their values, validated as a study."""
    document = tomllib.loads(_pattern().read_text(encoding="utf-8"))
    document["name"] = _study_name(folder)
    document["model"] |= {"name": model, "dtype": "auto"}
    document["facts"]["source"] = FACTS if facts is None else str(facts.resolve())
    if count is not None:
        document["search"]["unknown"] = _sizes(count)
    whole = study_of(document).model_dump(mode="json")
    return {"name": whole["name"], **{section: {key: whole[section][key] for key in keys} for section, keys in SHOWN.items()}}


def _study_name(folder: Path) -> str:
    name = folder.resolve().name
    return name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) and name not in OWN_FOLDERS else "study"


def _sizes(count: int) -> list[int]:
    """A quarter and three quarters of so many facts, which leaves some as control facts."""
    return sorted({max(1, min(MOST_UNKNOWN, count * quarters // 4)) for quarters in (1, 3)})


def _commented(document: dict[str, Any]) -> str:
    """The document as TOML, with the docstring of each field above it."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: dict[str, Any]) -> Iterator[str]:
    yield from _entries(StudyConfig, {"name": document["name"]})
    for section, values in document.items():
        if isinstance(values, dict):
            kind = StudyConfig.model_fields[section].annotation
            assert isinstance(kind, type)
            assert issubclass(kind, BaseModel)
            yield from ("", *_comment(kind.__doc__), f"[{section}]", *_entries(kind, values))


def _entries(kind: type[BaseModel], values: dict[str, Any]) -> Iterator[str]:
    meanings = field_docstrings(kind)
    for key, value in values.items():
        yield from (*_comment(meanings.get(key)), f"{key} = {toml_value(value)}")


def _comment(text: str | None) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join((text or "").split()), _WIDTH, break_on_hyphens=False)]
