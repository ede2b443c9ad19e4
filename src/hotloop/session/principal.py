"""Who asks. Every lookup of remembered state takes one."""

from dataclasses import dataclass
from typing import NewType

Tenant = NewType("Tenant", str)  # nothing remembered is ever shared between tenants

LOCAL = Tenant("local")


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller, after authentication."""

    tenant: Tenant = LOCAL
    key_id: str = ""  # which key, never the key itself
