"""A study's own folder below the results root: what a user looks for by the study's name.

The steps themselves are known by their content and lie elsewhere; here are links to those that a user wants to see, and files that no step
holds: the log of libraries, and what trackers keep.
"""

from pathlib import Path

from kp.store import files

LOG_FILE = "kp.log"


class StudyFolder:
    """The folder at `path`, made where it is not there; below it trackers keep files of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)

    @property
    def log(self) -> Path:
        """Where what libraries say goes."""
        return self.path / LOG_FILE

    def link(self, name: str, target: Path) -> Path:
        """Let `name` in this folder (which may be a/b) stand for what a step holds, in place of what it stood for; returns its path."""
        path = self.path / name
        files.link(path, target)
        return path
