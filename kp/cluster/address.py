"""The Ray cluster that RAY_ADDRESS names, asked whether it is there before Ray is.

Ray itself tries a dead address for minutes, and some of its ways to fail end the process without an exception.
"""

import contextlib
import io
import os
import socket
from urllib.parse import urlsplit

from kp.errors import UserError

VARIABLE = "RAY_ADDRESS"
START_HERE = ("", "local")  # values with which Ray is started on this machine
PROBE_SECONDS = 5
REMEDY = f"start that cluster, or unset {VARIABLE} to run on this machine alone"


def cluster_address() -> str | None:
    """The address that RAY_ADDRESS gives, None if Ray is to be started on this machine; raises UserError if no cluster answers there."""
    address = os.environ.get(VARIABLE, "").strip()
    if address in START_HERE:
        return None
    validate_reachable(address)
    return address


def validate_reachable(address: str) -> None:
    """Raise UserError if this is not the address of a cluster, or if nothing accepts connections there."""
    if address == "auto":
        address = _cluster_here()
    scheme, host, port = _parts(address)
    if scheme not in ("", "ray"):
        raise UserError(
            f"{address}: this is where `ray job submit` sends jobs; give HOST:PORT of the cluster's head, such as 10.0.0.1:6379, "
            "or submit the study as a job",
            field=VARIABLE,
        )
    try:
        socket.create_connection((host, port), timeout=PROBE_SECONDS).close()
    except OSError as error:
        raise UserError(f"{address}: no Ray cluster answers there ({error.strerror or error}); {REMEDY}", field=VARIABLE) from error
    if not _speaks_grpc(f"{host}:{port}"):
        raise UserError(f"{address}: what answers there is no Ray cluster; {REMEDY}", field=VARIABLE)


def _parts(address: str) -> tuple[str, str, int]:
    """Scheme ("" if there is none), host and port."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    with contextlib.suppress(ValueError):
        if parts.scheme in ("http", "https"):
            return parts.scheme, parts.hostname or "", parts.port or 0
        if parts.hostname and parts.port:
            return parts.scheme, parts.hostname, parts.port
    raise UserError(f"{address}: expected HOST:PORT, ray://HOST:PORT or auto", field=VARIABLE)


def _cluster_here() -> str:
    """HOST:PORT of the cluster that runs on this machine."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return str(canonicalize_bootstrap_address_or_die("auto"))
    except ConnectionError as error:
        raise UserError(f"auto: no Ray cluster runs on this machine; {REMEDY}", field=VARIABLE) from error


def _speaks_grpc(address: str) -> bool:
    """Whether what accepts connections there speaks the protocol of Ray's servers."""
    import grpc

    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return True  # then only Ray has the certificates
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=PROBE_SECONDS)
        except grpc.FutureTimeoutError:
            return False
    return True
