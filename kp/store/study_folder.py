"""A study's own folder below the results root: what a user looks for by the study's name.

The steps themselves are identified by their content and are stored elsewhere. This folder has links to those that a user wants to see, and
files that belong to no step: the log of libraries, and the files of trackers.
"""

from pathlib import Path

from kp.store import files

LOG_FILE = "kp.log"


class StudyFolder:
    """The folder at `path` below the results root `root`, created if missing; trackers also keep their files in it.

    Raises UserError if a link in it leads out of the results root.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self._root = path, root
        path.mkdir(exist_ok=True)

    @property
    def log(self) -> Path:
        """The log file for library output."""
        return files.confined(self.path / LOG_FILE, self._root)

    def publish(self) -> None:
        """Make its files available where users look for them; in a folder they are."""

    def link(self, name: str, target: Path) -> Path:
        """Point `name` in this folder (which may be a/b) at a step's content, replacing an older link; returns its path."""
        path = self.path / name
        files.confined(path.parent, self._root)
        files.link(path, target)
        return path
