"""What an engine knows of a saved adapter before it loads the weights."""

import json
import shutil
from pathlib import Path

import pytest

from kp.errors import UserError
from kp.generation.adapters import CONFIG_FILE, WEIGHTS_FILE, adapter_digest, read_adapter


def save(folder: Path, weights: bytes = b"weights", **config: object) -> Path:
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(json.dumps({"peft_type": "LORA", "r": 8, **config}), encoding="utf-8")
    (folder / WEIGHTS_FILE).write_bytes(weights)
    return folder


def test_read_adapter_name_is_its_content_whatever_the_folder(tmp_path: Path) -> None:
    first = save(tmp_path / "first")
    second = Path(shutil.copytree(first, tmp_path / "second"))
    assert read_adapter(first).digest == read_adapter(second).digest


@pytest.mark.parametrize("other", [{"weights": b"others"}, {"lora_alpha": 2}])
def test_read_adapter_other_weights_or_settings_have_another_name(tmp_path: Path, other: dict[str, object]) -> None:
    assert read_adapter(save(tmp_path / "one")).digest != read_adapter(save(tmp_path / "other", **other)).digest  # type: ignore[arg-type]


def test_read_adapter_rank_is_the_largest_of_any_module(tmp_path: Path) -> None:
    assert read_adapter(save(tmp_path / "one")).rank == 8
    assert read_adapter(save(tmp_path / "mixed", rank_pattern={"down_proj": 32, "up_proj": 2})).rank == 32


def test_adapter_digest_by_products_of_saving_change_nothing(tmp_path: Path) -> None:
    folder = save(tmp_path / "one")
    before = adapter_digest(folder)
    (folder / "README.md").write_text("# A model card", encoding="utf-8")
    (folder / "optimizer").mkdir()
    assert adapter_digest(folder) == before
    assert len(before) == 64


@pytest.mark.parametrize("missing", [CONFIG_FILE, WEIGHTS_FILE])
def test_adapter_digest_without_config_or_weights_is_refused(tmp_path: Path, missing: str) -> None:
    folder = save(tmp_path / "one")
    (folder / missing).unlink()
    with pytest.raises(UserError, match=f"has no {missing}"):
        adapter_digest(folder)


def test_read_adapter_that_is_no_lora_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="peft_type 'PREFIX_TUNING', expected 'LORA'"):
        read_adapter(save(tmp_path / "one", peft_type="PREFIX_TUNING"))
