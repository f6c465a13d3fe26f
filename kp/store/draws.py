"""Random draws by a hash of the seed and a name, so that they depend neither on the order of rows nor on a library's generator."""

import hashlib


def draw_key(seed: int, name: str) -> str:
    """The key of `name` in a draw with this seed: sorting by it shuffles, in the same way in every process and for any row order."""
    return hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=16).hexdigest()
