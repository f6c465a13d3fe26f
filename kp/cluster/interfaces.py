"""The network interface by which the workers of one trial, on several nodes, reach each other.

Left to themselves gloo takes the interface of whatever address the host's name resolves to, which on many hosts is 127.0.1.1, and NCCL the
first that it finds. Ray knows the address by which nodes reach each other; so the interface that has it is named to both.
"""

import os
import socket
from collections.abc import Mapping, Sequence

GLOO, NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"


def interface_of(address: str, interfaces: Mapping[str, Sequence[str]]) -> str | None:
    """The interface that has this address; None if none has, as behind an address translation. `interfaces` has addresses by name."""
    return next((name for name, addresses in interfaces.items() if address in addresses), None)


def use_interface_of_node() -> None:
    """Name the interface of this Ray node's address to gloo and NCCL in this process, unless its environment names one already."""
    import psutil
    import ray

    families = (socket.AF_INET, socket.AF_INET6)
    here = {name: [one.address for one in found if one.family in families] for name, found in psutil.net_if_addrs().items()}
    name = interface_of(ray.util.get_node_ip_address(), here)
    if name is not None:
        os.environ.setdefault(GLOO, name)
        os.environ.setdefault(NCCL, f"={name}")  # exactly this one, and not all whose names begin so
