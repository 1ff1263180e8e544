"""What a service listens to: a type of event and the function that handles a run of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, TypeVar

from google.protobuf.message import Message

from cairn_kit.database.transaction import Transaction
from cairn_kit.events.envelope import Received
from cairn_kit.events.subjects import EVERYTHING, filter_of

M = TypeVar("M", bound=Message)
_Handler = Callable[[Transaction, Sequence[Received[Any]]], Awaitable[None]]


class NotYet(Exception):
    """These events tell of something that is not known here yet; they come again later.

    Without events it means all that the handler was given. It never counts as a failure.
    """

    understood: ClassVar[bool] = False
    """Whether they are known to be understood, and have but to wait: then they are never given up."""

    def __init__(self, why: str, *events: Received[Any]) -> None:
        super().__init__(why)
        self.why = why
        self.events = events


class Subscription:
    """One type of event and its handler."""

    __slots__ = ("filter", "handler", "type")

    def __init__(
        self, event_type: type[M], handler: Callable[[Transaction, Sequence[Received[M]]], Awaitable[None]]
    ) -> None:
        self.type: type[Message] | None = event_type
        self.handler: _Handler = handler
        self.filter = filter_of(event_type.DESCRIPTOR.name)

    @classmethod
    def everything(
        cls, handler: Callable[[Transaction, Sequence[Received[Message]]], Awaitable[None]]
    ) -> Subscription:
        """Every event of every publisher, a whole batch to one call; bodies are not decoded."""
        made = cls.__new__(cls)
        made.type, made.handler, made.filter = None, handler, EVERYTHING
        return made

    @property
    def type_name(self) -> str | None:
        """The full protobuf name, or None for everything."""
        return None if self.type is None else self.type.DESCRIPTOR.full_name
