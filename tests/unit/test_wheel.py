"""The wheel: what is in it, what it asks of pip, and what stays out. It is built from copies of the files, without a network."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from kp.models.embedded import REQUIREMENT
from kp.store.code_version import DISTRIBUTION
from tests.conftest import REPOSITORY

CALENDAR = 2000  # a major version that is a year promises nothing
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository."""
    return built_wheel(tmp_path_factory.mktemp("wheel"))


def built_wheel(folder: Path) -> Path:
    """Build the wheel in `folder`, which setuptools fills with what it makes on the way."""
    source = folder / "source"
    for name in ("kp", "ray_jobs", "tests/unit/data"):  # with tests, which must stay out
        shutil.copytree(REPOSITORY / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("constraints.txt", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy2(REPOSITORY / name, source)
    build = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def files_of(folder: str) -> set[str]:
    """Every file below a folder of the repository that a wheel is to have, by its path in there."""
    found = (path.relative_to(REPOSITORY / folder) for path in (REPOSITORY / folder).rglob("*") if path.is_file())
    return {str(path) for path in found if "__pycache__" not in path.parts and path.suffix != ".pyc"}


def test_wheel_holds_every_file_of_the_package(names: set[str]) -> None:
    wanted = {f"kp/{name}" for name in files_of("kp")}
    assert len(wanted) > 300
    assert sorted(wanted - names) == []


def test_wheel_holds_the_studies_and_their_table(names: set[str]) -> None:
    wanted = {f"kp/studies/{name}" for name in files_of("ray_jobs/studies")}
    assert {"kp/studies/quickstart.toml", "kp/studies/own_facts.csv"} <= wanted
    assert sorted(wanted - names) == []


def test_wheel_holds_the_package_and_nothing_else(names: set[str]) -> None:
    assert {name.partition("/")[0] for name in names} == {"kp", f"kp_lora-{PROJECT['version']}.dist-info"}
    assert [name for name in names if "__pycache__" in name or name.endswith(".pyc") or "/tests/" in name] == []


def test_wheel_brings_the_licence_and_the_notice(names: set[str]) -> None:
    assert {name.rpartition("/")[2] for name in names if "/licenses/" in name} == {"LICENSE", "NOTICE"}


def test_wheel_is_named_as_the_code_says(metadata: Message, wheel: Path) -> None:
    import kp

    assert metadata["Name"] == DISTRIBUTION == PROJECT["name"]
    assert metadata["Version"] == kp.__version__
    assert wheel.name == f"kp_lora-{kp.__version__}-py3-none-any.whl"


def test_every_dependency_of_the_wheel_has_bounds_that_admit_its_pin(metadata: Message) -> None:
    needed = [found for found in map(Requirement, metadata.get_all("Requires-Dist") or []) if not found.marker]
    assert len(needed) == len(PROJECT["dependencies"]) > 30
    for one in needed:
        pin, bounds = Version(PINS[one.name]), {bound.operator for bound in one.specifier}
        assert one.specifier.contains(pin), f"{one} does not admit {pin}, which constraints.txt has"
        assert bounds == ({">="} if pin.major >= CALENDAR else {">=", "<"}), f"{one}: from the first version that works to the next break"


def test_wheel_of_the_embedded_model_is_the_pinned_one() -> None:
    name, _, version = REQUIREMENT.partition("==")
    assert PINS[name] == version
