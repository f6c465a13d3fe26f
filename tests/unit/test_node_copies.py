"""Each node has one copy of a model on its own disk, whoever dies while making it."""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from kp.config.study import ModelConfig, StudyConfig
from kp.errors import UserError
from kp.inference.answering import EngineSpec
from kp.models import node_copies
from kp.models.loading import load_model, resolve_model
from kp.models.names import ResolvedModel
from kp.models.node_copies import VARIABLE, copy_name, is_whole, on_this_node, room_fault, shared_file_system
from kp.study.model_check import model_fault, model_need
from kp.training.base_model_cache import BaseModelCache
from tests.tiny_model import save_tiny_model

PROCESSES = 4
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResolvedModel:
    monkeypatch.setenv("KP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own" / "models"))
    return resolve_model(ModelConfig(name=str(save_tiny_model(tmp_path / "shared"))))


def copy_of(model: ResolvedModel, tmp_path: Path) -> Path:
    return tmp_path / "own" / "models" / copy_name(model)


def read_slowly(model: ResolvedModel, reads: Path, seconds: float) -> None:
    """A process of the node that needs the model; each piece that it reads is a line of `reads`."""
    real = node_copies._read

    def read(reading: Any, source: Path, field: str) -> bytes:
        piece = real(reading, source, field)
        with reads.open("a") as log:
            log.write(f"{os.getpid()} {source.name} {len(piece)}\n")
        time.sleep(seconds)
        return piece

    node_copies._read = read
    on_this_node(model)


def started(model: ResolvedModel, reads: Path, seconds: float) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=read_slowly, args=(model, reads, seconds))
    process.start()
    return process


def read_bytes(reads: Path) -> int:
    return sum(int(line.split()[2]) for line in reads.read_text().splitlines())


def test_model_without_a_folder_for_copies_is_read_from_where_it_lies(model: ResolvedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    assert on_this_node(model) == model


def test_copy_has_the_same_files_and_the_model_keeps_its_name_and_revision(model: ResolvedModel, tmp_path: Path) -> None:
    found = on_this_node(model)
    assert (found.name, found.revision, found.path) == (model.name, model.revision, str(copy_of(model, tmp_path)))
    for file in node_copies.model_files(Path(model.path)):
        assert (Path(found.path) / file.name).read_bytes() == file.read_bytes()
    shutil.rmtree(model.path)  # nothing is read from there any more
    assert on_this_node(model) == found
    assert load_model(found, "float32", "cpu").config.num_hidden_layers == 2


def test_generators_and_workers_load_the_copy(model: ResolvedModel, tmp_path: Path) -> None:
    engine = EngineSpec(ModelConfig(name=model.name, dtype="float32"), 4, True, 4, 1, False)
    assert engine.load()[0].path == str(copy_of(model, tmp_path))
    assert BaseModelCache(engine).resolved.path == str(copy_of(model, tmp_path))


def test_processes_that_need_a_model_at_once_read_its_files_once(model: ResolvedModel, tmp_path: Path) -> None:
    reads = tmp_path / "reads"
    waiting = [started(model, reads, 0.05) for _ in range(PROCESSES)]
    for process in waiting:
        process.join()
    assert [process.exitcode for process in waiting] == [0] * PROCESSES
    assert read_bytes(reads) == sum(file.stat().st_size for file in node_copies.model_files(Path(model.path)))
    assert is_whole(copy_of(model, tmp_path))


def test_process_that_is_killed_while_it_copies_leaves_the_work_to_the_one_that_waits(model: ResolvedModel, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    killed = started(model, first, 60.0)
    while not first.exists():
        time.sleep(0.02)
    waits = started(model, second, 0.0)
    os.kill(killed.pid, signal.SIGKILL)
    waits.join()
    killed.join()
    assert (killed.exitcode, waits.exitcode) == (-signal.SIGKILL, 0)
    copy = copy_of(model, tmp_path)
    assert is_whole(copy)
    assert sorted(path.name for path in copy.parent.iterdir()) == [copy.name, f"{copy.name}.lock"]  # and nothing of the first


@pytest.mark.parametrize("damage", ["shorter", "changed", "gone", "no record"])
def test_damaged_copy_is_made_again(model: ResolvedModel, tmp_path: Path, damage: str) -> None:
    weights = Path(on_this_node(model).path) / "model.safetensors"
    content = weights.read_bytes()
    if damage == "shorter":
        weights.write_bytes(content[:-1])
    elif damage == "changed":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "gone":
        weights.unlink()
    else:
        (weights.parent / "record.json").write_text("{")
    assert not is_whole(copy_of(model, tmp_path))
    assert (Path(on_this_node(model).path) / "model.safetensors").read_bytes() == content


def test_file_that_is_not_what_was_hashed_is_not_copied(model: ResolvedModel, tmp_path: Path) -> None:
    weights = Path(model.path) / "model.safetensors"
    before = weights.stat()
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))  # as by a disk that fails
    with pytest.raises(UserError, match=r"model\.name: .* model\.safetensors is not what it was when it was fetched: fetch it again"):
        on_this_node(model)
    assert not copy_of(model, tmp_path).exists()


def test_file_of_the_hubs_cache_must_have_the_digest_that_names_it(model: ResolvedModel, tmp_path: Path) -> None:
    weights = Path(model.path) / "model.safetensors"
    blob = weights.rename(tmp_path / ("0" * 64))
    weights.symlink_to(blob)
    with pytest.raises(UserError, match="is not what it was when it was fetched"):
        on_this_node(model)


def test_disk_without_room_is_refused_before_anything_is_copied(
    model: ResolvedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_copies.shutil, "disk_usage", lambda path: Usage(1 << 40, 0, node_copies.SPARE))
    with pytest.raises(UserError, match=rf"{VARIABLE}: .* no room for a copy of .* 1\.0 GiB are free there; make room, name another"):
        on_this_node(model)
    assert list((tmp_path / "own" / "models").glob(f"*{model.revision}")) == []


def test_disk_that_gets_full_while_it_is_copied_to_is_told_and_nothing_is_left(model: ResolvedModel, tmp_path: Path) -> None:
    limit = 20_000  # bytes of a file, as from a full disk: the tiny model's weights have more

    def full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    program = (
        "import errno, sys\n"
        "from kp.models import node_copies\n"
        "from kp.models.names import ResolvedModel\n"
        "node_copies.errno.ENOSPC = errno.EFBIG\n"  # what the limit raises in place of a full disk
        "node_copies.on_this_node(ResolvedModel(*sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", program, model.name, model.path, model.revision]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=full)
    assert f"{VARIABLE}: {tmp_path / 'own' / 'models'}: is full: make room, or unset {VARIABLE}" in done.stderr
    assert [path.name for path in (tmp_path / "own" / "models").iterdir()] == [f"{copy_name(model)}.lock"]


def test_folder_for_copies_that_cannot_be_made_is_named(model: ResolvedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "models"))
    with pytest.raises(UserError, match=rf"{VARIABLE}: .* cannot be used for copies of models: Not a directory; name a local folder"):
        on_this_node(model)


def test_folder_for_copies_that_is_relative_is_refused(model: ResolvedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "models")
    with pytest.raises(UserError, match=rf"{VARIABLE}: models: .* give an absolute path"):
        on_this_node(model)


def test_node_without_room_for_a_copy_is_found_before_the_study_begins(model: ResolvedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    study = StudyConfig.model_validate({"name": "s", "model": {"name": model.name}, "training": {"lora_alpha": 16}})
    need = model_need(study, study.model, Path(model.path), False, copy_name(model))
    assert model_fault(need) is None
    monkeypatch.setattr(node_copies.shutil, "disk_usage", lambda path: Usage(1 << 40, 0, node_copies.SPARE))
    assert "is to be copied to" in str(model_fault(need))
    monkeypatch.undo()
    assert room_fault(copy_name(model), 1 << 60) is None  # the node keeps no copies


def test_time_for_loading_grows_with_the_models_files(model: ResolvedModel) -> None:
    study = StudyConfig.model_validate({"name": "s", "model": {"name": model.name}, "training": {"lora_alpha": 16}})
    need = model_need(study, study.model, Path(model.path), False)
    assert need.loading_seconds == (Path(model.path) / "model.safetensors").stat().st_size / 50e6


def test_file_system_that_machines_share_is_known_by_its_kind(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/a / ext4 rw 0 0\nserver:/ /mnt nfs4 rw 0 0\nfs:/x /mnt/own/fast lustre rw 0 0\n/dev/b /mnt/own ext4 rw 0 0\n")
    kinds = {path: shared_file_system(Path(path), mounts) for path in ("/home/u", "/mnt/models/m", "/mnt/own/m", "/mnt/own/fast/m")}
    assert kinds == {"/home/u": None, "/mnt/models/m": "nfs4", "/mnt/own/m": None, "/mnt/own/fast/m": "lustre"}
    assert shared_file_system(Path("/mnt"), tmp_path / "none") is None


@pytest.mark.parametrize("where", ["config", "text config"])
def test_quantised_model_is_refused_before_its_weights_are_read(model: ResolvedModel, where: str) -> None:
    file = Path(model.path) / "config.json"
    config = json.loads(file.read_text())
    quantised = {"quantization_config": {"quant_method": "fp8"}}
    file.write_text(json.dumps(config | (quantised if where == "config" else {"text_config": quantised})))
    with pytest.raises(UserError, match=r"model\.name: .* is quantised \(fp8\), .* name the model that it was made from"):
        load_model(model, "float32", "cpu")


def test_model_is_read_straight_onto_the_workers_own_gpu(model: ResolvedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third GPU of a worker that sees several, whatever number transformers would choose."""
    asked: dict[str, Any] = {}

    def read(path: str, **options: Any) -> Any:
        asked.update(options)
        raise ValueError("enough")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", read)
    for device, expected in (("cuda", "cuda:2"), ("cuda:1", "cuda:1"), ("cpu", "cpu")):
        with pytest.raises(UserError, match="enough"):
            load_model(model, "bfloat16", device)
        assert asked["device_map"] == {"": torch.device(expected)}
