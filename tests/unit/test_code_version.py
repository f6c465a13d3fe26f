"""The commit in a record is that of the package's own checkout, and none where it has none."""

import json
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

import kp
from kp.store.code_version import CHECKOUT, COMMIT_VARIABLE, DISTRIBUTION, NO_CHECKOUT, PACKAGE, STATED, code_version, version_of
from kp.store.steps import package_versions

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=n@example.org")
    return subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a repository that has one commit."""
    folder = tmp_path / "checkout" / "kp"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    git(folder.parent, "init", "--quiet")
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "--quiet", "--message", "first")
    return folder


def test_version_of_a_checkout_is_its_commit(package: Path) -> None:
    assert version_of(package) == {"source": CHECKOUT, "commit": git(package, "rev-parse", "HEAD"), "dirty": False}


@pytest.mark.parametrize("file", ["__init__.py", "new.py"])
def test_version_of_a_changed_or_new_file_is_dirty(package: Path, file: str) -> None:
    (package / file).write_text("x = 1\n")
    assert version_of(package)["dirty"] is True


def test_version_of_a_change_beside_the_package_is_clean(package: Path) -> None:
    (package.parent / "notes.txt").write_text("of a user")
    assert version_of(package)["dirty"] is False


@pytest.fixture(autouse=True)
def _nothing_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COMMIT_VARIABLE, raising=False)


def test_version_of_a_package_outside_of_git_is_none_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("")
    assert version_of(tmp_path) == {"source": NO_CHECKOUT, "commit": None, "dirty": None}


def test_version_of_a_package_installed_below_a_foreign_checkout_is_not_of_it(package: Path) -> None:
    installed = package.parent / ".venv" / "site-packages" / "kp"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert version_of(installed) == {"source": NO_CHECKOUT, "commit": None, "dirty": None}


def test_version_of_a_package_in_a_hook_of_another_repository_is_its_own(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    commit = git(package, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert version_of(package)["commit"] == commit


def test_version_without_git_is_none(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert version_of(package)["source"] == NO_CHECKOUT


@pytest.mark.parametrize(("stated", "dirty"), [("0123abc", None), ("0123abc-dirty", True)])
def test_version_of_an_uploaded_package_is_the_commit_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: str, dirty: bool | None
) -> None:
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setenv(COMMIT_VARIABLE, stated)
    assert version_of(tmp_path) == {"source": STATED, "commit": "0123abc", "dirty": dirty}


def test_version_of_a_checkout_is_its_own_whatever_is_stated(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMIT_VARIABLE, "0123abc")
    assert version_of(package)["commit"] == git(package, "rev-parse", "HEAD")


def test_versions_of_a_record_name_kp_where_pip_knows_no_distribution_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def known(name: str) -> str:
        if name in ("kp", DISTRIBUTION):
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", known)
    assert package_versions()["kp"] == kp.__version__


def test_code_version_asks_git_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = code_version()
    assert first == version_of(PACKAGE)
    monkeypatch.setenv("PATH", "")
    assert code_version() is first


@pytest.mark.parametrize(
    ("origin", "commit"),
    [
        (None, None),
        ({"url": "file:///wheels/kp_lora-9.8-py3-none-any.whl", "archive_info": {}}, None),
        ({"url": "https://example.org/kp.git", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}}, "0123abc"),
    ],
)
def test_version_of_what_pip_installed_is_that_of_its_distribution(
    origin: dict[str, object] | None, commit: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, noted = tmp_path / "kp", tmp_path / "kp_lora-9.8.dist-info"
    installed.mkdir()
    (installed / "__init__.py").write_text("")
    noted.mkdir()
    (noted / "METADATA").write_text("Metadata-Version: 2.4\nName: kp-lora\nVersion: 9.8\n")
    if origin is not None:
        (noted / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert version_of(installed) == {"source": NO_CHECKOUT, "commit": commit, "dirty": None, "version": "9.8"}
