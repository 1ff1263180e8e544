"""PostgreSQL, NATS and the Cairn services, embedded on one machine. Start at `cairn_stack.api`."""

from cairn_stack.catalog import SERVICES, ServiceSpec
from cairn_stack.errors import StackError
from cairn_stack.home import default_home
from cairn_stack.private import PrivateStack
from cairn_stack.state import ProcessState, StackState, StackStatus

__all__ = [
    "SERVICES",
    "PrivateStack",
    "ProcessState",
    "ServiceSpec",
    "StackError",
    "StackState",
    "StackStatus",
    "default_home",
]
