"""Make a process, and the Python processes that it starts, unable to reach any other machine.

`install` writes a sitecustomize module, which every interpreter with that folder on its PYTHONPATH runs first. It lets sockets connect to
this machine only, and notes each process in which it stands and each attempt to leave.
"""

from pathlib import Path

CODE = """
import ipaddress, os, socket
LOG = {log!r}
OWN = {{"", "localhost", "0.0.0.0", "::", socket.gethostname()}}

def note(name, text):
    with open(os.path.join(LOG, name), "a") as file:
        file.write(text + "\\n")

try:
    OWN |= {{entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), None)}}
except OSError:
    pass
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    try:
        probe.connect(("8.8.8.8", 1))  # sends nothing, but chooses this machine's address, as Ray does
        OWN.add(probe.getsockname()[0])
    except OSError:
        pass

def here(host):
    if isinstance(host, bytes):
        host = host.decode()
    if host is None or host in OWN:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

connect, connect_ex, lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

def refuse(host):
    if not here(host):
        note("attempts", f"{{os.getpid()}} {{host}}")
        raise OSError(101, f"no network: {{host}}")

def guarded(call):
    def connecting(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and self.type == socket.SOCK_STREAM:
            refuse(address[0])
        return call(self, address)
    return connecting

def looking_up(host, *arguments, **named):
    refuse(host)
    return lookup(host, *arguments, **named)

socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = guarded(connect), guarded(connect_ex), looking_up
note("guarded", f"{{os.getpid()}} {{' '.join(open('/proc/self/cmdline').read().split(chr(0)))}}")
"""


def install(folder: Path) -> dict[str, str]:
    """Write the module into `folder` and return the variables with which a process obeys it; `attempts` and `guarded` are noted there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(CODE.format(log=str(folder)), encoding="utf-8")
    return {"PYTHONPATH": str(folder)}
