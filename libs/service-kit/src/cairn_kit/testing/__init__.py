"""Tests against real servers: a fresh world for each test, and waiting on conditions instead of clocks."""

from cairn_kit.testing.announced import announced
from cairn_kit.testing.eventually import eventually
from cairn_kit.testing.projects import ProjectsOfAll
from cairn_kit.testing.proxy import CutProxy
from cairn_kit.testing.servers import own_postgres
from cairn_kit.testing.world import Heard, RunningService, World

__all__ = [
    "CutProxy",
    "Heard",
    "ProjectsOfAll",
    "RunningService",
    "World",
    "announced",
    "eventually",
    "own_postgres",
]
