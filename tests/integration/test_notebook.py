"""kp from Python: a finished study loads with its frames, figures and adapters, the notebook of the docs runs, and a card's snippet too."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import polars as pl
import pytest
from safetensors import safe_open

import kp
from kp.errors import UserError
from tests.conftest import REPOSITORY, clean_environment

NOTEBOOK = REPOSITORY / "docs" / "notebook.ipynb"
RESULT = REPOSITORY / "results" / "quickstart"


def test_importing_kp_loads_no_library() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import kp, sys; print(*sorted(sys.modules))"], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout.split()
    assert "kp" in told
    assert not {"polars", "pyarrow", "torch", "ray", "numpy", "kp.study"} & set(told)


def test_loaded_result_has_the_frames_and_figures_of_its_report(tmp_path: Path) -> None:
    study = kp.load(RESULT)
    assert study.outcomes.equals(pl.read_parquet(RESULT / "tables" / "outcomes.parquet"))
    assert study.effects["trial_id"].n_unique() == len(study.trials) == 4
    assert study.trials["knowledge_loss"].null_count() == 0
    assert all(isinstance(getattr(study, name), pl.DataFrame) for name in study.tables)
    assert study.statement.startswith("The most that this study packed")
    figure = study.figure("packed_against_lost")
    assert figure._repr_svg_().rstrip().endswith("</svg>")
    assert figure.save(tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert figure.save(tmp_path / "one.svg").read_text(encoding="utf-8") == figure._repr_svg_()
    assert study.config["search"]["unknown"] == [10, 20]


def test_what_a_loaded_study_lacks_is_told_with_what_there_is(tmp_path: Path) -> None:
    study = kp.load(RESULT)
    with pytest.raises(UserError, match="has no figure 'shift'; there are packed_against_lost, "):
        study.figure("shift")
    with pytest.raises(UserError, match="names no adapter of this study; there are: none yet"):
        study.adapter("15")
    with pytest.raises(UserError, match=r"a figure is written as \.png or \.svg"):
        study.figure().save(tmp_path / "one.jpg")
    with pytest.raises(AttributeError, match="study 'quickstart' did not measure 'slick'; it has facts, "):
        _ = study.slick
    with pytest.raises(AttributeError, match="a study has no 'outcome'; its frames are facts, "):
        _ = study.outcome
    with pytest.raises(UserError, match="no report there; give the folder of a finished study"):
        kp.load(tmp_path)


def test_run_of_a_finished_study_loads_it_and_does_nothing_again(tiny_study: Path, tiny_copy: Path) -> None:
    study = kp.run(tiny_study, results=tiny_copy)
    assert study.trials["status"].to_list() == ["completed"] * 3
    assert not list((tiny_copy / "tiny").glob("ray*"))
    adapter = study.adapter(study.trials["trial_id"][0][:6])
    with safe_open(adapter / "adapter_model.safetensors", "np") as weights:
        assert len(list(weights.keys())) > 0


def test_run_of_a_wrong_config_names_the_field(tiny_study: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"search\.rank"):
        kp.run({"name": "s", "training": {"lora_alpha": 16}, "search": {"rank": ["one"]}}, results=tmp_path)
    with pytest.raises(UserError, match=r"expected section\.key=value"):
        kp.run(tiny_study, "search.rank", results=tmp_path)


def test_notebook_runs_on_a_finished_study(finished_tiny: Path, tmp_path: Path) -> None:
    book = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in book.cells)  # it is kept without
    book.cells[1]["source"] = book.cells[1]["source"].replace("runs/quickstart", str(finished_tiny / "tiny"), 1)
    nbformat.write(book, tmp_path / "book.ipynb")
    # By a process of its own, as a reader does: this one has run Ray.
    command = [Path(sys.executable).with_name("jupyter-execute"), tmp_path / "book.ipynb", "--output", "done.ipynb", "--timeout", "300"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=clean_environment(), check=False)
    assert told.returncode == 0, told.stderr
    shown = [output for cell in nbformat.read(tmp_path / "done.ipynb", as_version=4).cells for output in cell.get("outputs", ())]
    assert any("image/svg+xml" in output.get("data", {}) for output in shown)
    assert re.search(r"[\d,]+ parameters of the adapter", str(shown))
    assert kp.load(finished_tiny / "tiny").statement in [str(output.get("text", "")).strip() for output in shown]


def test_card_of_every_adapter_loads_it_as_it_says(finished_tiny: Path) -> None:
    folder = finished_tiny / "tiny"
    study = kp.load(folder)
    cards = sorted(path.stem for path in (folder / "report" / "cards").iterdir())
    assert cards == sorted(study.trials["trial_id"])
    card = (folder / "report" / "cards" / f"{cards[0]}.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    model = study.context.model_name
    here = snippet.replace(f'"{Path(model).name}"', f'"{model}"', 1)
    assert here != snippet  # a local base is named without its path
    told = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, cwd=folder, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.endswith("\n")
