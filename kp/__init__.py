"""kp: how many new facts can you pack into a LoRA adapter before it harms the model?

`load` opens a finished study in Python, `run` runs one. Both import what they need when they are called, so `import kp` costs nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kp.study.loaded import LoadedStudy

__version__ = "0.1.0"


def load(folder: str | Path) -> "LoadedStudy":
    """The finished study in a folder such as runs/quickstart, or a committed result such as results/quickstart.

    Raises kp.errors.UserError if there is no report in it.
    """
    from kp.study.loaded import LoadedStudy

    return LoadedStudy(Path(folder))


def run(study: str | Path | Mapping[str, Any], *overrides: str, results: str | Path = "runs") -> "LoadedStudy":
    """Run a study to its report, as `kp study` does, and load it; what is done already is not done again.

    `study` is a study file or its content as nested values; `overrides` are texts such as "search.rank=[1,4]". Raises kp.errors.UserError
    for bad input, and if a trial failed of what a user can mend; trials that failed otherwise stand in `.trials` with their cause.
    """
    from kp.study.opening import opened
    from kp.study.run import run_study
    from kp.study.stage import Command

    with opened(study if isinstance(study, Mapping) else Path(study), overrides) as config:
        run_study(config, Path(results), Command.REPORT)
        return load(Path(results) / config.name)
