"""Identity: who calls, what they may do, and the keys and tokens that prove it."""

from cairn_kit.auth.caller import Caller, acting_for, caller, current_tenant
from cairn_kit.auth.keys import KeyRing, PrivateKey, PublicKeys, write_key_set
from cairn_kit.auth.leases import LeaseClaims
from cairn_kit.auth.permissions import PERMISSIONS, Permission, Role, Rule
from cairn_kit.auth.tokens import Signer, Verifier

__all__ = [
    "PERMISSIONS",
    "Caller",
    "KeyRing",
    "LeaseClaims",
    "Permission",
    "PrivateKey",
    "PublicKeys",
    "Role",
    "Rule",
    "Signer",
    "Verifier",
    "acting_for",
    "caller",
    "current_tenant",
    "write_key_set",
]
