"""Which addresses a stranger's URL may lead to: those of the public internet. Pure."""

from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network

# Each of these carries an IPv4 address that somebody else unpacks, or is on its way out.
_EMBEDDING = tuple(
    network
    for text in (
        "::/96",  # IPv4-compatible (RFC 4291 §2.5.5.1)
        "::ffff:0:0/96",  # IPv4-mapped (RFC 4291 §2.5.5.2)
        "::ffff:0:0:0/96",  # IPv4-translated (RFC 7915)
        "64:ff9b::/96",  # NAT64 (RFC 6052)
        "64:ff9b:1::/48",  # NAT64 for local use (RFC 8215)
        "2001::/32",  # Teredo (RFC 4380)
        "2002::/16",  # 6to4 (RFC 3056)
        "fec0::/10",  # site-local (RFC 3879)
    )
    if isinstance(network := ip_network(text), IPv6Network)
)


def is_public(address: str) -> bool:
    """The address belongs to somebody on the internet: not private, local, shared, reserved or multicast, in no disguise."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and (found.scope_id or any(found in network for network in _EMBEDDING)):
        return False
    is_special = found.is_multicast or found.is_reserved or found.is_unspecified or found.is_loopback
    return found.is_global and not found.is_private and not found.is_link_local and not is_special
