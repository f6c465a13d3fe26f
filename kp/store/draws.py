"""What a random draw goes by: a hash of the seed and a name, so that no order of rows and no library's generator has a part in it."""

import hashlib


def draw_key(seed: int, name: str) -> str:
    """What stands for `name` in a draw with this seed: sorting by it shuffles, the same way in every process and for any row order."""
    return hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=16).hexdigest()
