"""How many operators and host synchronisations a pass of packed tokens takes: on a GPU each costs the time of a launch, or more."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, LlamaConfig

from kp.generation import decoding
from kp.generation.decoding import Decoder, Limits, Row, Work, read_prefixes, read_shared_prefixes
from kp.generation.forward import Forward

LAYERS = 32
MOST = 1400  # launches of a decode pass; the model's own forward pass makes 1,114 without a cache, 1,234 with one
MOST_MIXED = 1700
STACKING = 6  # launches for each prefix in a pass that has other prefixes than the one before, to put them into one batch
VIEWS = {"view", "_unsafe_view", "transpose", "t", "slice", "select", "unsqueeze", "expand", "permute", "alias", "detach", "squeeze"}
VIEWS |= {"unbind", "split", "split_with_sizes", "lift_fresh"}
WAITING = {"tolist", "item", "__bool__", "__int__", "__float__", "__index__", "cpu", "numpy", "nonzero"}
"""Functions of a tensor for which the host waits until the device has computed it."""


class _Launches(TorchDispatchMode):
    """Counts operators that are more than another view of the same numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in VIEWS:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


class _Functions(TorchFunctionMode):
    """Counts calls for which the host waits, and tensors made from its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in WAITING or func is torch.tensor:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


class _Pass:
    """The rows of a pass and its counts."""

    def __init__(self, decode: int, prefill: int, moves: int, prefixes: set[int]) -> None:
        self.decode, self.prefill, self.moves, self.prefixes = decode, prefill, moves, prefixes
        self.launches: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()


@contextmanager
def _counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[_Pass]]:
    passes: list[_Pass] = []
    make, launches, functions = decoding.make_line, _Launches(), _Functions()

    def counting(decode: Any, prefill: Any, *args: Any, **named: Any) -> Any:
        for counter in (launches, functions):
            counter.counts = Counter()
        passes.append(_Pass(len(decode), len(prefill), len(named["moves"][0]), {live.row.prefix for live in [*decode, *prefill]}))
        passes[-1].launches, passes[-1].functions = launches.counts, functions.counts
        return make(decode, prefill, *args, **named)

    monkeypatch.setattr(decoding, "make_line", counting)
    with functions, launches:
        yield passes


@pytest.fixture(scope="module")
def forward() -> Forward:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48, vocab_size=261
    )
    return Forward(AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval())


@pytest.mark.parametrize("prefixes", [1, 4])
def test_pass_makes_few_launches_and_waits_for_the_device_once(forward: Forward, prefixes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(decoding.PADDING_ALLOWED, "cpu", decoding.PADDING_ALLOWED["cuda"])
    rows = [Row(number, number % prefixes, [5 + number % 7] * (4 + number % 5), [9, 9], shared_prefix=0) for number in range(40)]
    rows = [row if row.prefix == 0 else Row(row.index, row.prefix, row.ids, row.draft) for row in rows]
    with torch.no_grad(), forward.exchanged():
        read = read_prefixes(forward, [[*range(40 + 3 * number)] for number in range(prefixes)], 4096, Work())
        shared = read_shared_prefixes(forward, [Row(0, 0, [1, 2, 3, 4], [])], read, 4096, Work())
        decoder = Decoder(forward, (read, shared), Limits(16, 60), 8, lambda made: len(made) > 4 and made[-1] % 5 == 0, Work())
        with _counted(monkeypatch) as passes:
            answers = list(decoder.answers(rows))

    assert len(answers) == len(rows)
    later = list(pairwise(passes))  # the first pass makes the buffers
    decoded = [(one, STACKING * len(one.prefixes) * (one.prefixes != before.prefixes)) for before, one in later if not one.prefill]
    mixed = [one for _, one in later if one.prefill and one.decode]
    assert any(one.moves for one, _ in decoded)
    assert any(not stacking for _, stacking in decoded)
    assert max(one.launches.total() - stacking for one, stacking in decoded) <= MOST
    assert max(one.launches.total() for one in mixed) <= MOST_MIXED
    for one in passes[1:]:
        assert one.functions == {"tolist": 1, "tensor": 1}  # the chosen tokens; the numbers of the line
        assert not {"_local_scalar_dense", "nonzero", "masked_select", "item"} & one.launches.keys()
