"""Packages for a machine that has no index: fetched here, carried in parts of limited size, installed there beside what it has.

    .venv/bin/python -m tests.gpu_check.carrying fetch carried --python 3.12        # here
    python3 tests/gpu_check/carrying.py install carried --into site                 # there

Everything is in `carried/part-1`, `carried/part-2`, ...; parts of one file end in .0, .1, ... and are joined where they are installed. It
imports only the standard library, because on that machine there is nothing else.
"""

import argparse
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

PART_BYTES = 60 << 20
SOURCES = ("deepspeed",)
"""Published without a wheel: made here, of Python alone, because no operator of it is compiled."""

PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in (34, 31, 28, 27, 24, 17, 12)), "manylinux2014_x86_64", "manylinux1_x86_64")
_VERSION = re.compile(r"cp3\d+")


def fetch(names: Iterable[str], folder: Path, python: str) -> None:
    """Wheels of these packages, in the versions that this environment has, for another machine's Python, into the folder's parts."""
    with tempfile.TemporaryDirectory() as made:
        wheels = Path(made)
        for name in names:
            wanted = f"{name}=={importlib.metadata.version(name)}"
            if name in SOURCES:
                _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), wanted)
                continue
            platforms = [option for platform in PLATFORMS for option in ("--platform", platform)]
            target = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp", *platforms]
            _pip("download", "--no-deps", *target, "--dest", str(wheels), wanted)
        split(sorted(wheels.iterdir()), folder)


def _pip(*arguments: str) -> None:
    if subprocess.run([sys.executable, "-m", "pip", arguments[0], "--quiet", *arguments[1:]]).returncode:
        raise SystemExit(f"pip {arguments[0]} failed; it says why above")  # in one line: what it ran is of no help


def split(files: Sequence[Path], folder: Path, most: int = PART_BYTES) -> None:
    """Put the files into parts of at most `most` bytes; a file that no part has room for is cut."""
    number, room = 0, 0
    for file in files:
        content = file.read_bytes()
        pieces = [content[start : start + most] for start in range(0, len(content), most)]
        for place, piece in enumerate(pieces):
            if len(piece) > room:
                number, room = number + 1, most
                (folder / f"part-{number}").mkdir(parents=True)
            name = file.name if len(pieces) == 1 else f"{file.name}.{place}"
            (folder / f"part-{number}" / name).write_bytes(piece)
            room -= len(piece)


def joined(folder: Path, target: Path) -> list[Path]:
    """The whole files of all parts, in `target`."""
    pieces: dict[str, dict[int, Path]] = {}
    for piece in folder.glob("part-*/*"):
        name, _, place = piece.name.rpartition(".")
        whole, number = (name, int(place)) if place.isdigit() else (piece.name, 0)
        pieces.setdefault(whole, {})[number] = piece
    for whole, found in pieces.items():
        (target / whole).write_bytes(b"".join(found[number].read_bytes() for number in range(len(found))))
    return sorted(target / whole for whole in pieces)


def install(folder: Path, into: Path) -> None:
    """Install everything that was carried into a folder for PYTHONPATH."""
    with tempfile.TemporaryDirectory() as made:
        wheels = joined(folder, Path(made))
        check_python(wheels)
        _pip("install", "--no-index", "--no-deps", "--no-compile", "--target", str(into), *map(str, wheels))


def check_python(wheels: Sequence[Path]) -> None:
    """Raise SystemExit if there is no wheel, or one that another Python's binary interface was compiled for."""
    if not wheels:
        raise SystemExit("no part-1, part-2, ... with wheels in this folder; `fetch` makes them")
    here = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for wheel in wheels:
        *_, abi, _ = wheel.stem.split("-")
        if _VERSION.fullmatch(abi) and abi != here:
            raise SystemExit(f"{wheel.name} is for {abi}, but this Python is {here}: install with the Python that `fetch --python` named")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    fetching = verbs.add_parser("fetch")
    fetching.add_argument("folder", type=Path)
    fetching.add_argument("--python", default="3.12", help="of the machine without an index")
    fetching.add_argument("--packages", nargs="*", help="absent: all that the check needs; its step `environment` says what is missing")
    installing = verbs.add_parser("install")
    installing.add_argument("folder", type=Path)
    installing.add_argument("--into", type=Path, required=True)
    asked = parser.parse_args(arguments)
    if asked.verb == "install":
        install(asked.folder, asked.into)
        return 0
    from tests.gpu_check.environment import CARRIED

    fetch(asked.packages or CARRIED, asked.folder, asked.python)
    return 0


if __name__ == "__main__":
    sys.exit(main())
