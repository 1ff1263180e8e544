"""Work that one replica does for a project, and all replicas can be asked for.

Projects fall into sixteen shares. A replica keeps some of them, and what concerns a project is taken to its keeper over
the bus: an event (`events`) as well as a call (`calls`). Who keeps what is the service's to say, by `Lines`.
"""

from cairn_kit.shares.calls import KeeperCalls
from cairn_kit.shares.events import EventsForKeepers
from cairn_kit.shares.lines import Lines
from cairn_kit.shares.share import SHARES, Elsewhere, fair_number, share_of

__all__ = ["SHARES", "Elsewhere", "EventsForKeepers", "KeeperCalls", "Lines", "fair_number", "share_of"]
