"""The hosts that a request may name: the defense against a foreign name that points at this machine.

The address that a connection arrived at is always allowed: rebinding needs a name. So is its port, the only one known
when --port is 0.
"""

import ipaddress
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studio.settings import Settings

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
EVERYWHERE = ("0.0.0.0", "::", "")


class TrustedHosts:
    """Says whether a Host header names this program.

    Args:
        settings: Its host, port, lan and space_host.
    """

    def __init__(self, settings: "Settings") -> None:
        names = set(LOCAL_NAMES)
        if settings.host not in EVERYWHERE:
            names.add(in_url(settings.host))
        if settings.lan:
            names.update(own_names())
        self.names = frozenset(name.lower() for name in names)
        self._port = settings.port
        self._space_host = (settings.space_host or "").lower()
        self._public = settings.trusted_hosts

    def allows(self, host: str, server: object) -> bool:
        """Whether a request may name this host.

        Args:
            host: The Host header, in any case.
            server: The scope's "server": (address, port) the connection came in at.
        """
        host = host.lower()
        if (self._space_host and host == self._space_host) or is_public_name(host, self._public):
            return True
        ports = {self._port}
        if isinstance(server, (tuple, list)):
            ports.add(server[1])
        for port in ports:
            if host.removesuffix(f":{port}") in self.names and host.endswith(f":{port}"):
                return True
        return (80 in ports and host in self.names) or is_arrival_address(host, server)


def is_public_name(host: str, names: Sequence[str]) -> bool:
    """Whether a Host names one of these: with a port exactly, without one on any port."""
    host = host.lower()
    name, _, port = host.rpartition(":")
    bare = name if port.isdigit() and ":" in host else host
    return bool(host) and (host in names or bare in names)


def own_names() -> frozenset[str]:
    """This machine's names and addresses, as written in a URL."""
    name = socket.gethostname().lower().rstrip(".")
    names = {name, name if name.endswith(".local") else f"{name.partition('.')[0]}.local"}
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        found = []
    names.update(in_url(str(entry[4][0]).partition("%")[0]) for entry in found)
    return frozenset(names | outgoing_address()) - {""}


def is_arrival_address(host: str, server: object) -> bool:
    """Whether a Host is the very address and port the connection came in at.

    Args:
        server: The scope's "server": (address, port), or None for a socket file.
    """
    if not isinstance(server, (tuple, list)) or len(server) != 2 or not isinstance(server[0], str):
        return False
    try:
        address = ipaddress.ip_address(server[0].partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return host == f"{in_url(str(mapped))}:{server[1]}"


def outgoing_address() -> frozenset[str]:
    """The address that others on the network see, if there is a network."""
    # Connecting a datagram socket sends nothing; it only asks which address would be used.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return frozenset({str(probe.getsockname()[0])})
        except OSError:
            return frozenset()


def in_url(address: str) -> str:
    """An address as written in a URL."""
    return f"[{address}]" if ":" in address and not address.startswith("[") else address
