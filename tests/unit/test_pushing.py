"""An adapter is found as users name it, and the Hub gets its files and nothing of this machine; a server in the test stands for the Hub."""

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
from safetensors.numpy import save_file

from kp.config.study import StudyConfig, load_study
from kp.errors import UserError
from kp.report.model_card import card_base
from kp.report.reading import read_report
from kp.report.summary import summary_table
from kp.report.tables import ReportContext
from kp.report.writing import CONTEXT_FILE
from kp.study.finished_adapters import find_adapter
from kp.study.pushing import push_adapter
from tests.conftest import REPOSITORY

RESULT = REPOSITORY / "results" / "quickstart"


class StandIn(BaseHTTPRequestHandler):
    """The endpoints of the Hub that an upload of small files needs; `refused` is a status with which it answers everything."""

    files: dict[str, bytes]
    refused: int | None = None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.refused:
            self._send({"error": "no"}, self.refused)
        elif self.path.endswith("/repos/create"):
            self._send({"url": f"http://{self.headers['Host']}/me/facts"})
        elif self.path.endswith("/validate-yaml"):
            self._send({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            self._send({"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked]})
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._send({"commitUrl": "https://huggingface.co/me/facts/commit/0", "commitOid": "0" * 40, "success": True})

    def _send(self, answer: dict[str, Any], status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[StandIn]]:
    handler = type("Handler", (StandIn,), {"files": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def trials() -> dict[str, str]:
    tables, _ = read_report(RESULT, config().report)
    return dict(summary_table(tables).select("trial_id", "label").iter_rows())


@pytest.fixture
def root(tmp_path: Path, trials: dict[str, str]) -> Path:
    study = tmp_path / "quickstart"
    study.mkdir()
    (study / "report").symlink_to(RESULT)
    for name in [*trials, f"{next(iter(trials))}@0.5"]:
        adapter = study / "adapters" / name
        adapter.mkdir(parents=True)
        settings = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "/home/me/model", "revision": "abc-1"}
        (adapter / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
        save_file({"a.weight": np.zeros(3, np.float32)}, adapter / "adapter_model.safetensors")
    return tmp_path


def config() -> StudyConfig:
    return load_study(RESULT / "study.toml", [])


def push(root: Path, trial: str, repo: str = "me/facts", dry_run: bool = False) -> int:
    return push_adapter(config(), root, trial, repo, private=True, dry_run=dry_run)


def test_pushed_repository_has_weights_config_and_card(root: Path, trials: dict[str, str], hub: type[StandIn]) -> None:
    trial_id = next(iter(trials))
    assert push(root, trial_id[:6]) == 0
    saved = root / "quickstart" / "adapters" / trial_id
    assert set(hub.files) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert hub.files["adapter_model.safetensors"] == (saved / "adapter_model.safetensors").read_bytes()
    assert trial_id in hub.files["README.md"].decode()
    pushed = json.loads(hub.files["adapter_config.json"])
    assert pushed["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert pushed["revision"] is None
    assert not any(b"/home/me" in content for content in hub.files.values())


def test_dry_run_prints_files_and_card_and_uploads_nothing(
    root: Path, trials: dict[str, str], hub: type[StandIn], capfd: pytest.CaptureFixture[str]
) -> None:
    assert push(root, next(iter(trials)), dry_run=True) == 0
    printed = capfd.readouterr().out
    assert "adapter_model.safetensors:" in printed
    assert "library_name: peft" in printed
    assert not hub.files


@pytest.mark.parametrize("status", [401, 403])
def test_refused_token_is_one_line_that_says_what_to_do(root: Path, trials: dict[str, str], hub: type[StandIn], status: int) -> None:
    hub.refused = status
    with pytest.raises(UserError, match="hf auth login") as refusal:
        push(root, next(iter(trials)))
    assert refusal.value.field == "REPO"
    assert "\n" not in str(refusal.value)


def test_name_that_the_hub_does_not_allow_is_refused(root: Path, trials: dict[str, str], hub: type[StandIn]) -> None:
    with pytest.raises(UserError, match="no name that the Hub allows"):
        push(root, next(iter(trials)), repo="a/b/c")


def test_hub_that_cannot_be_reached_is_one_line(root: Path, trials: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    with pytest.raises(UserError, match="cannot be reached"):
        push(root, next(iter(trials)))


def test_scaled_adapter_is_not_pushed_under_numbers_of_another_scale(root: Path, trials: dict[str, str]) -> None:
    with pytest.raises(UserError, match="another scale"):
        push(root, f"{next(iter(trials))}@0.5", dry_run=True)


def test_adapter_is_found_by_beginning_label_and_scale(root: Path, trials: dict[str, str]) -> None:
    study, (trial_id, label) = root / "quickstart", next(iter(trials.items()))
    assert find_adapter(study, trial_id[:8]).name == trial_id
    assert find_adapter(study, label).name == trial_id
    assert find_adapter(study, f"{trial_id[:8]}@0.5").name == f"{trial_id}@0.5"


@pytest.mark.parametrize("wanted", ["", "nobody"])
def test_adapter_that_is_not_there_is_refused_with_those_that_are(root: Path, trials: dict[str, str], wanted: str) -> None:
    with pytest.raises(UserError) as refusal:
        find_adapter(root / "quickstart", wanted)
    assert all(trial_id in str(refusal.value) for trial_id in trials)


def test_base_in_a_folder_is_named_without_its_place() -> None:
    made = replace(ReportContext.load(RESULT / CONTEXT_FILE), model_name="/home/me/model")
    assert card_base(made).name == "model"
    assert card_base(made).hub_id is None
