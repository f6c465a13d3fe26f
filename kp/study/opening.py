"""A study as a user gives it, made ready to be run or described."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kp.config.study import StudyConfig, load_study, study_of
from kp.store.prefetched import reading


@contextmanager
def opened(study: Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Iterator[StudyConfig]:
    """The study of a file or of a file's content, which within the block reads its prefetched folder instead of the Hub if it names one.

    Raises UserError as `load_study` does.
    """
    config = study_of(study, overrides) if isinstance(study, Mapping) else load_study(study, overrides)
    with reading(config.resources.prefetched):
        yield config
