"""Which engine a study answers with: what it asks of the config, of the steps' identities and of Ray, and what vLLM's module may import."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.runtime_env import RuntimeEnv

from kp.config.study import VLLM_MOST_RANK, ModelConfig, StudyConfig, load_study
from kp.errors import UserError
from kp.generation.prompt_tokens import prompt_tokens
from kp.generation.vllm import LORA_RANKS
from kp.generation.vllm_environment import validate_interpreter
from kp.inference.answering import EngineSpec
from kp.study.building import build_graph
from kp.study.graph import Graph
from kp.study.identities import Identities
from kp.study.stages.report import report_step
from kp.vocabulary import Engine
from tests.tiny_model import save_tiny_model, tiny_tokenizer

REPOSITORY = Path(__file__).parents[2]
SMOKE = REPOSITORY / "ray_jobs" / "studies" / "smoke.toml"
WITH_VLLM = ("categorise.engine=vllm", "resources.vllm_python=/opt/vllm/bin/python")


def smoke(*overrides: str) -> StudyConfig:
    return load_study(SMOKE, list(overrides))


def graph(config: StudyConfig) -> Graph:
    return build_graph(config, Identities("model", "facts", "shots"))


@pytest.mark.parametrize("python", [(), ("resources.vllm_python=bin/python",)])
def test_load_study_engine_vllm_without_an_absolute_interpreter_is_refused(python: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"resources\.vllm_python: .*absolute path"):
        smoke("categorise.engine=vllm", *python)


def test_load_study_engine_vllm_with_a_rank_that_it_does_not_support_is_rejected() -> None:
    assert max(LORA_RANKS) == VLLM_MOST_RANK
    assert smoke(*WITH_VLLM, f"search.rank=[{VLLM_MOST_RANK}]").categorise.engine is Engine.VLLM
    with pytest.raises(UserError, match=r"search\.rank: adapters of rank 513 are above 512"):
        smoke(*WITH_VLLM, "search.rank=[8, 513]")


def test_build_graph_engine_vllm_makes_other_answers_but_not_other_facts() -> None:
    hf, vllm = graph(smoke()), graph(smoke(*WITH_VLLM))
    assert vllm.steps["facts"].fingerprint == hf.steps["facts"].fingerprint
    assert vllm.steps["categorise"].fingerprint != hf.steps["categorise"].fingerprint
    assert vllm.trials[0].measurements["answers/S1"].literals["categorise.engine"] == "vllm"


def test_build_graph_engine_hf_is_known_as_before_there_was_a_choice() -> None:
    found = graph(smoke("categorise.engine=hf", "resources.vllm_python=/opt/vllm/bin/python"))
    assert "categorise.engine" not in found.steps["categorise"].literals
    assert found.steps["categorise"].fingerprint == graph(smoke()).steps["categorise"].fingerprint


def test_report_step_says_the_engine_only_where_it_is_not_hf() -> None:
    shown = {}
    for config in (smoke(), smoke(*WITH_VLLM)):
        shown[config.categorise.engine] = report_step(config, graph(config), [], {}).literals["config"]
    assert "categorise.engine" not in shown[Engine.HF]
    assert shown[Engine.VLLM]["categorise.engine"] == "vllm"


def test_build_graph_place_of_the_interpreter_is_no_part_of_an_identity() -> None:
    elsewhere = graph(smoke("categorise.engine=vllm", "resources.vllm_python=/usr/bin/python3"))
    assert elsewhere.steps["categorise"].fingerprint == graph(smoke(*WITH_VLLM)).steps["categorise"].fingerprint


def _engine(**changed: Any) -> EngineSpec:
    return EngineSpec(ModelConfig(), max_new_tokens=8, stop_at_newline=True, batch_size=4, threads=3, use_gpu=False, **changed)


def test_remote_options_of_hf_keep_the_environment_of_the_study() -> None:
    assert _engine().remote_options() == {}


def test_remote_options_of_vllm_name_its_interpreter_and_bring_kp_along() -> None:
    options = _engine(engine=Engine.VLLM, vllm_python="/opt/vllm with space/bin/python").remote_options()
    environment = RuntimeEnv(**options["runtime_env"])  # Ray's own check of it
    assert environment.py_executable() == "'/opt/vllm with space/bin/python'"  # Ray hands it to a shell
    assert environment.env_vars() == {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "3"}


def test_validate_interpreter_interpreter_without_vllm_says_what_it_lacks() -> None:
    with pytest.raises(UserError, match=r"resources\.vllm_python: .* lacks vllm;"):
        validate_interpreter(sys.executable)


def test_validate_interpreter_path_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"resources\.vllm_python: .*no_python: cannot be run"):
        validate_interpreter(str(tmp_path / "no_python"))


def test_validate_interpreter_program_that_is_no_python_is_named() -> None:
    with pytest.raises(UserError, match=r"resources\.vllm_python: /bin/false: is no Python"):
        validate_interpreter("/bin/false")


def test_validate_interpreter_interpreter_with_another_ray_is_refused(tmp_path: Path) -> None:
    python = tmp_path / "python"  # stands for an interpreter whose environment has everything, and an older Ray
    version = list(sys.version_info[:2])
    python.write_text(f"""#!/bin/sh\necho '{{"python": {version}, "ray": "2.9.3", "missing": []}}'\n""")
    python.chmod(0o755)
    with pytest.raises(UserError, match=r"has ray 2\.9\.3, the study runs on .*; they must be the same"):
        validate_interpreter(str(python))


def test_vllm_module_imports_where_nothing_of_the_studys_packages_is() -> None:
    blocked = ("ray", "peft", "polars", "pyarrow", "pydantic", "rich", "tyro", "vllm", "torch", "transformers")
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import kp.generation.vllm, kp.metrics.agreement"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


def test_vllm_requirements_agree_with_the_constraints() -> None:
    def pins(path: str) -> dict[str, str]:
        lines = (REPOSITORY / path).read_text(encoding="utf-8").splitlines()
        return dict(line.replace("[data]", "").split("==") for line in lines if "==" in line and not line.startswith("#"))

    required = pins("ray_jobs/vllm_requirements.txt")
    assert required.pop("vllm")
    assert required.items() <= pins("constraints.txt").items()


def test_engine_spec_of_vllm_compares_tokens_before_it_starts_anything(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path)
    expected = prompt_tokens(tiny_tokenizer(), [[{"role": "user", "content": "Who?"}]])
    other = replace(expected, ids=((*expected.ids[0][:-1], 99),))
    engine = replace(_engine(engine=Engine.VLLM, prompt_tokens=other), model=ModelConfig(name=str(model)))

    with pytest.raises(UserError, match=r"resources\.vllm_python: .* reads a prompt as other tokens"):
        engine.load()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_load_study_memory_share_of_vllm_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=r"resources\.vllm_memory_share"):
        smoke(f"resources.vllm_memory_share={share}")
