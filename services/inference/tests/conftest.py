"""Fixtures: a fresh world of real servers for each test."""

from cairn_kit.testing.fixtures import *  # noqa: F403
