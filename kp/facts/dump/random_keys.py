"""Random keys: the order in which candidates are drawn, from a hash of the seed and a candidate's text, like those of kp.facts.selection.

With millions of candidates, one SHA-256 each would take longer than everything else; so texts are hashed in bulk. The hash function is
defined here in full, because a draw must be the same on another machine and with other versions of the libraries.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]

_WORD = 8  # bytes
_FACTOR, _FIRST, _SECOND = (np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_MASKS = np.array([(1 << (8 * size)) - 1 for size in range(_WORD + 1)], dtype=np.uint64)


def draw_key(seed: int, relation: str) -> int:
    """The 64-bit key that makes the draws of each seed and relation different."""
    return int.from_bytes(hashlib.sha256(f"{seed} {relation}".encode()).digest()[:_WORD], "little")


def random_keys(hashes: Hashes, draw_keys: Hashes) -> Hashes:
    """The random key of each candidate, from the hash of its text and the key of its draw; within a draw, ties occur only by chance."""
    return _mixed(hashes ^ draw_keys)


def text_hashes(texts: pa.StringArray) -> Hashes:
    """A 64-bit hash of each text's UTF-8 bytes: its words of eight bytes, the last padded with zeros, are mixed in one by one."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    letters = np.concatenate((np.frombuffer(data or b"", dtype=np.uint8)[: bounds[-1]], np.zeros(_WORD, dtype=np.uint8)))
    words = np.ndarray((len(letters) - _WORD + 1,), "<u8", buffer=letters.data, strides=(1,))
    lengths = np.diff(bounds)
    order = np.argsort(-lengths, kind="stable")
    starts, left = bounds[:-1][order], lengths[order]
    hashes = left.astype(np.uint64) * _FACTOR
    while longer := int(np.searchsorted(-left, 0)):  # the texts with bytes left, which come first
        word = words[starts[:longer]] & _MASKS[np.minimum(left[:longer], _WORD)]
        hashes[:longer] = _mixed(hashes[:longer] ^ word)
        starts, left = starts + _WORD, left - _WORD
    placed = np.empty(len(texts), dtype=np.uint64)
    placed[order] = _mixed(hashes)
    return placed


def _mixed(numbers: Hashes) -> Hashes:
    """SplitMix64's finaliser: a permutation of the 64-bit numbers in which every bit depends on every other."""
    numbers = numbers + _FACTOR
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _FIRST
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _SECOND
    return numbers ^ (numbers >> np.uint64(31))
