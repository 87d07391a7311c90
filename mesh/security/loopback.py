"""Loopback: the only addresses that may be served without credentials."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether `host`, an address or a name without a port, can only mean this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
