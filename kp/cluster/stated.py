"""A cluster that is not there, as a user states it: `64xH100`, or `8x8xH100` for 8 nodes with 8 GPUs each.

What a GPU can do is what its data sheet says. Which share of that a study reaches is an assumption of the price (kp.study.cluster_price),
and stands in what is printed.
"""

import re
from dataclasses import dataclass

from kp.cluster.sizing import Node
from kp.errors import UserError

FIELD = "--cluster"
MOST_GPUS_A_NODE = 8  # of nodes whose number is not stated
CPUS_A_GPU = 8  # of every node: enough for a worker and its share of Ray's own processes


@dataclass(frozen=True)
class GpuKind:
    """What a data sheet says of one GPU: dense bfloat16 in TFLOP/s, memory in GB, and its bandwidth in GB/s."""

    name: str
    teraflops: float
    memory_gb: float
    bandwidth_gb: float
    of_ray: tuple[str, ...] = ()
    """What Ray may call it, if it is not `name`."""

    @property
    def accelerators(self) -> tuple[str, ...]:
        """The names by which a study may ask for it (`resources.accelerator_type`)."""
        return self.of_ray or (self.name,)


# Dense rates, without structured sparsity: NVIDIA's data sheets of each, in the form in which clouds rent it (SXM where there is one).
GPU_KINDS = {
    kind.name: kind
    for kind in (
        GpuKind("A10", 125.0, 24.0, 600.0, ("A10", "A10G")),
        GpuKind("A100-40GB", 312.0, 40.0, 1555.0, ("A100", "A100-40G")),
        GpuKind("A100", 312.0, 80.0, 2039.0, ("A100", "A100-80G")),
        GpuKind("L4", 121.0, 24.0, 300.0),
        GpuKind("L40S", 362.0, 48.0, 864.0),
        GpuKind("H100", 989.0, 80.0, 3350.0),
        GpuKind("H200", 989.0, 141.0, 4800.0),
    )
}
_FORM = re.compile(r"(?:(?P<nodes>[1-9]\d*)x)?(?P<gpus>[1-9]\d*)x(?P<kind>[A-Za-z][\w-]*)")


@dataclass(frozen=True)
class StatedCluster:
    """Nodes of one kind of GPU; the last one may have fewer GPUs."""

    kind: GpuKind
    nodes: tuple[Node, ...]

    @property
    def gpus(self) -> int:
        """GPUs of all nodes."""
        return sum(node.gpus for node in self.nodes)

    def __str__(self) -> str:
        return f"{self.gpus} {self.kind.name} on {len(self.nodes)} {'node' if len(self.nodes) == 1 else 'nodes'}"


def stated_cluster(text: str) -> StatedCluster:
    """The cluster of this text, `GPUSxKIND` or `NODESxGPUSxKIND`; raises UserError naming the forms and kinds that there are."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise UserError(f"'{text}': expected GPUSxKIND, such as 64xH100, or NODESxGPUSxKIND, such as 8x8xH100", field=FIELD)
    kinds = {name.lower(): kind for name, kind in GPU_KINDS.items()}
    kind = kinds.get(found["kind"].lower())
    if kind is None:
        raise UserError(f"'{text}': no rates are known for '{found['kind']}'; known are {', '.join(sorted(GPU_KINDS))}", field=FIELD)
    gpus = int(found["gpus"])
    if found["nodes"]:
        each = [gpus] * int(found["nodes"])
    else:
        each = [MOST_GPUS_A_NODE] * (gpus // MOST_GPUS_A_NODE) + [gpus % MOST_GPUS_A_NODE] * (gpus % MOST_GPUS_A_NODE > 0)
    return StatedCluster(kind, tuple(Node(CPUS_A_GPU * count, count, kind.accelerators) for count in each))
