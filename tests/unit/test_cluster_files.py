"""The files that start a cluster: accepted by Ray's own schema and types, and in step with the rest of the repository.

No cloud is reached, so what can be checked is checked: shapes, versions, and every path and command that these files name.
"""

import json
import operator
import re
import shlex
import subprocess
from functools import reduce
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.runtime_env import RuntimeEnv

from kp.config.study import load_study
from tests.rayjob_fields import RAY_JOB

REPOSITORY = Path(__file__).parents[2]
RAY_SCHEMA = Path(ray.autoscaler.__file__).with_name("ray-schema.json")


def parsed(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))


def pinned(package: str) -> str:
    """The version that constraints.txt pins."""
    found = re.search(rf"^{package}==(\S+)$", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"constraints.txt does not pin {package}"
    return found[1]


@pytest.fixture(scope="module", params=["cluster.yaml", "ray_jobs/clusters/gcp.yaml"])
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return parsed(request.param)


@pytest.fixture(scope="module")
def runtime_env() -> dict[str, Any]:
    return parsed("ray_jobs/runtime_env.yaml")


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    manifest = parsed("ray_jobs/rayjob.yaml")
    assert (manifest["kind"], manifest["apiVersion"]) == ("RayJob", "ray.io/v1")
    return manifest["spec"]


@pytest.fixture(scope="module")
def pods(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The pod specs of the RayJob's cluster: head and gpu."""
    spec = job["rayClusterSpec"]
    groups = {"head": spec["headGroupSpec"]} | {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    return {name: group["template"]["spec"] for name, group in groups.items()}


def test_cluster_yaml_meets_the_schema_of_the_installed_ray(cluster: dict[str, Any]) -> None:
    schema = json.loads(RAY_SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(cluster, schema)


def test_schema_of_the_installed_ray_refuses_an_unknown_key(cluster: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match="gpu_workers"):
        jsonschema.validate(cluster | {"gpu_workers": 4}, json.loads(RAY_SCHEMA.read_text(encoding="utf-8")))


def test_cluster_yaml_has_one_head_and_up_to_four_gpu_workers(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert cluster["head_node_type"] in types
    workers = [node for name, node in types.items() if name != cluster["head_node_type"]]
    assert sum(node["min_workers"] for node in workers) == 0
    assert sum(node["max_workers"] for node in workers) == cluster["max_workers"] == 4


def test_cluster_yaml_runs_one_image_on_every_node_and_installs_nothing_when_one_comes(cluster: dict[str, Any]) -> None:
    assert {name for name in cluster["docker"] if "image" in name} == {"image"}
    assert not (cluster["setup_commands"] + cluster["head_setup_commands"] + cluster["worker_setup_commands"])


def test_cluster_yaml_mounts_the_shared_folder_before_it_changes_its_owner(cluster: dict[str, Any]) -> None:
    verbs = ["mount" if "mount -t" in command else command.split()[1] for command in cluster["initialization_commands"]]
    assert verbs == ["mkdir", "mount", "chown"]


def test_image_is_of_the_pinned_ray_and_installs_as_the_makefile_does() -> None:
    steps = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    assert f"BASE=rayproject/ray:{pinned('ray')}-py311-gpu" in steps
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^\$\(STAMP\):.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe
    of_makefile = [line.partition("pip install --quiet ")[2] for line in recipe[1].splitlines() if "-c constraints.txt" in line]
    of_image = re.findall(r"pip install --no-cache-dir (.*?)(?: \\)?$", steps, re.MULTILINE)
    assert of_image == [line.replace("dev", "s3") for line in of_makefile]


def test_image_holds_what_its_steps_copy() -> None:
    copied = re.findall(r"^COPY --chown=\S+ (.+) \S+$", (REPOSITORY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert all((REPOSITORY / name).exists() for name in names)
    allowed = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")}
    assert set(names) == allowed


def test_cluster_yaml_sets_one_authentication_mode_and_carries_its_token(cluster: dict[str, Any]) -> None:
    assert "-e RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert "~/.ray" in cluster["file_mounts"].values()
    starts = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    assert not any("RAY_AUTH" in command for command in starts)


def test_runtime_env_is_accepted_by_ray(runtime_env: dict[str, Any]) -> None:
    accepted = RuntimeEnv(**runtime_env)
    assert set(accepted) - RuntimeEnv.known_fields == set()
    assert accepted["env_vars"] == runtime_env["env_vars"]


def test_runtime_env_leaves_out_what_a_job_does_not_need_and_nothing_else(runtime_env: dict[str, Any]) -> None:
    assert {pattern.strip("/") for pattern in runtime_env["excludes"]} == {"results", "runs", ".venv", ".venv-vllm", "tests"}
    assert all(pattern.startswith("/") for pattern in runtime_env["excludes"]), "kp/ has folders of its own below the top"


def test_runtime_env_leaves_authentication_to_the_nodes(runtime_env: dict[str, Any]) -> None:
    assert not any(name.startswith("RAY_AUTH") for name in runtime_env["env_vars"])


def test_rayjob_has_the_fields_of_its_resource_and_their_types() -> None:
    jsonschema.Draft7Validator.check_schema(RAY_JOB)
    jsonschema.validate(parsed("ray_jobs/rayjob.yaml"), RAY_JOB)


@pytest.mark.parametrize(
    ("place", "wrong", "said"),
    [
        (("spec",), {"backOffLimit": 3}, "backOffLimit"),
        (("spec", "rayClusterSpec"), {"workerGroupSpecs": {}}, "workerGroupSpecs|array"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams"), {"num-gpus": 0}, "string"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0), {"maxReplicas": "4"}, "integer"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "resources", "limits"), {"cpu": 8}, "string"),
    ],
)
def test_rayjob_with_a_wrong_field_is_refused(place: tuple[Any, ...], wrong: dict[str, Any], said: str) -> None:
    job = parsed("ray_jobs/rayjob.yaml")
    reduce(operator.getitem, place, job).update(wrong)
    with pytest.raises(jsonschema.ValidationError, match=said):
        jsonschema.validate(job, RAY_JOB)


def test_rayjob_deletes_its_cluster_some_time_after_its_end_and_grows_beyond_what_it_begins_with(job: dict[str, Any]) -> None:
    assert job["shutdownAfterJobFinishes"], "KubeRay refuses ttlSecondsAfterFinished without it"
    assert all(group["minReplicas"] <= group["replicas"] < group["maxReplicas"] for group in job["rayClusterSpec"]["workerGroupSpecs"])


def test_rayjob_is_of_the_pinned_ray_and_grows(job: dict[str, Any]) -> None:
    spec = job["rayClusterSpec"]
    assert spec["rayVersion"] == pinned("ray")
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"]


def commands_of(job: dict[str, Any]) -> tuple[list[str], str]:
    """The arguments of the entry point's Python, and the shell program around it."""
    bash, flag, program = shlex.split(job["entrypoint"])
    assert (bash, flag) == ("bash", "-c")
    study = re.search(r'study="(.*?)"', program)
    assert study
    return study[1].split(), program


def test_rayjob_entrypoint_names_files_of_the_repository(job: dict[str, Any]) -> None:
    script, study, *rest = commands_of(job)[0]
    assert (REPOSITORY / script).is_file()
    config = load_study(REPOSITORY / study, [rest[0]])
    (workers,) = job["rayClusterSpec"]["workerGroupSpecs"]
    assert (config.name, config.resources.max_gpus) == ("paper", workers["maxReplicas"])
    assert rest[1] == "--results"


@pytest.mark.parametrize(("plan", "run", "code"), [(0, 0, 0), (0, 3, 0), (2, 9, 0), (0, 1, 1), (0, 137, 137)])
def test_rayjob_is_tried_again_only_where_a_new_cluster_may_help(
    job: dict[str, Any], tmp_path: Path, plan: int, run: int, code: int
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\n[ "${{@: -1}}" = --dry-run ] && exit {plan}\nexit {run}\n', encoding="utf-8")
    python.chmod(0o755)
    done = subprocess.run(["bash", "-c", commands_of(job)[1]], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, check=False)
    assert done.returncode == code


def test_rayjob_runtime_env_is_the_checked_in_one_plus_its_folder(job: dict[str, Any], runtime_env: dict[str, Any]) -> None:
    assert yaml.safe_load(job["runtimeEnvYAML"]) == runtime_env | {"working_dir": "/opt/kp"}


def test_rayjob_results_and_models_lie_on_the_shared_volume_that_no_job_deletes(
    job: dict[str, Any], pods: dict[str, dict[str, Any]]
) -> None:
    claim = parsed("ray_jobs/volume.yaml")
    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    results = commands_of(job)[0][-1]
    for pod in pods.values():
        (container,) = pod["containers"]
        volume = next(volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume)
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        mount = next(mount for mount in container["volumeMounts"] if mount["name"] == volume["name"])
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        for path in (results, environment["HF_HOME"], environment["KP_CACHE"]):
            assert Path(path).is_relative_to(mount["mountPath"])


def test_rayjob_gpus_stand_in_the_workers_alone(job: dict[str, Any], pods: dict[str, dict[str, Any]]) -> None:
    def limits(pod: str) -> dict[str, str]:
        return pods[pod]["containers"][0]["resources"]["limits"]

    assert "nvidia.com/gpu" not in limits("head")
    assert limits("gpu")["nvidia.com/gpu"] == "1"
    (workers,) = job["rayClusterSpec"]["workerGroupSpecs"]
    assert workers["replicas"] == workers["minReplicas"] == 0


def test_rayjob_containers_ask_for_what_they_are_limited_to(pods: dict[str, dict[str, Any]]) -> None:
    for pod in pods.values():
        (container,) = pod["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_rayjob_image_is_the_same_on_every_pod(pods: dict[str, dict[str, Any]]) -> None:
    assert len({pod["containers"][0]["image"] for pod in pods.values()}) == 1
