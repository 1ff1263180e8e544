"""What is known of an item, and what therefore is wanted of labelers and reviewers.

Facts come from several publishers in any order. Each kind of fact has a revision and the newest stands, so the facts
about an item are the same whatever order they came in; and what is wanted is a function of the facts alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cairn_task_dispatch.domain.states import Decision, Route, TaskKind

REVIEW_PRIORITY = 1.0  # whoever waits for an expert has waited for everybody else before


@dataclass(frozen=True, slots=True)
class ProjectPolicy:
    """What of a project matters here, with defaults filled in."""

    revision: int
    min_answers: int
    gold_share: float
    lease_seconds: float
    reviews_disputes: bool
    required_skill: str
    archived: bool


class ItemFacts(NamedTuple):
    """The newest fact of each kind about one item.

    A tuple: an import makes four for each item, and a frozen dataclass takes five times as long.
    """

    imported: bool = False
    gold: bool = False
    route: Route = Route.NONE
    route_revision: int = 0
    priority: float = 0.0
    decision: Decision = Decision.NONE
    decision_revision: int = 0
    answers_wanted: int = 0
    """What consensus wants in all; keeps its last value after the decision."""
    skill: str = ""
    settled: bool = False
    """Whether gold or a correction is its label: no answer can change that."""
    wished: int = 0
    """Answers that somebody asked for by hand, in all."""
    cancelled_at: int | None = None
    """The decision revision at which labeling was called off; a newer decision calls it on again."""
    review_cancelled_at: int | None = None
    """The same for reviews without an audit."""
    cancel_reason: str = ""
    reviews_wished: int = 0
    """Reviews that somebody asked for by hand, in all; an audit's have tasks of their own and are no fact of the item."""
    review_priority: float = 0.0

    @property
    def bare(self) -> bool:
        """Whether nothing was heard that ever called for a task: nothing at all, or an import without gold answers."""
        return self in (UNKNOWN, ONLY_IMPORTED)

    def is_but_for_its_route(self, other: ItemFacts) -> bool:
        """Whether these are the same facts, but for what `with_route` changes."""
        return (
            self._replace(route=other.route, route_revision=other.route_revision, priority=other.priority)
            == other
        )

    def with_import(self, *, gold: bool) -> ItemFacts:
        """After `ItemsImported`. Items never change, so once is enough."""
        if self is UNKNOWN and not gold:
            return ONLY_IMPORTED
        return self._replace(imported=True, gold=self.gold or gold)

    def with_route(self, revision: int, route: Route, priority: float) -> ItemFacts:
        """After `ItemsRouted`; an older revision changes nothing."""
        if revision <= self.route_revision:
            return self
        return self._replace(route=route, route_revision=revision, priority=priority)

    def with_decision(
        self, revision: int, decision: Decision, answers_wanted: int = 0, skill: str = ""
    ) -> ItemFacts:
        """After consensus spoke; an older revision changes nothing but the wish, which only grows."""
        wanted = max(self.answers_wanted, answers_wanted)
        if revision <= self.decision_revision:
            return self._replace(answers_wanted=wanted)
        return self._replace(
            decision=decision, decision_revision=revision, answers_wanted=wanted, skill=skill
        )

    def with_settled_label(self) -> ItemFacts:
        """After `LabelFinalized` of source GOLD or CORRECTION, for all questions: nothing lower replaces it."""
        return self._replace(settled=True)

    def with_manual_wish(self, answers: int, priority: float) -> ItemFacts:
        """After `CreateTasks` for labels."""
        return self._replace(
            wished=max(self.wished, answers),
            priority=max(self.priority, priority),
            cancelled_at=None,
            cancel_reason="",
        )

    def with_review_wish(self, reviews: int, priority: float) -> ItemFacts:
        """After `CreateTasks` for reviews without an audit."""
        return self._replace(
            reviews_wished=max(self.reviews_wished, reviews),
            review_priority=max(self.review_priority, priority),
            review_cancelled_at=None,
        )

    def with_cancelled(self, kind: TaskKind, reason: str) -> ItemFacts:
        """After `CancelTask` of its label task, or of its review without an audit."""
        if kind is TaskKind.REVIEW:
            return self._replace(
                review_cancelled_at=self.decision_revision,
                reviews_wished=0,
                review_priority=0.0,
                cancel_reason=reason,
            )
        return self._replace(cancelled_at=self.decision_revision, wished=0, cancel_reason=reason)


UNKNOWN = ItemFacts()
"""Of an item that nobody has told of."""

ONLY_IMPORTED = ItemFacts(imported=True)
"""Of an item without gold answers that nobody has told of since."""


@dataclass(frozen=True, slots=True)
class Open:
    """A task is wanted open, with this many slots in all (at least)."""

    slots: int
    priority: float
    skill: str = ""


@dataclass(frozen=True, slots=True)
class Closed:
    """No more answers are wanted; a task that exists is closed, none is made."""

    reason: str


Wish = Open | Closed | None
"""None: nothing is known that calls for a task, or against one."""


def label_wish(facts: ItemFacts, policy: ProjectPolicy, answered: int) -> Wish:
    """What is wanted of labelers, when `answered` answers were given in time on the item's label task."""
    if not facts.imported or facts.gold:
        return None
    slots = max(policy.min_answers, facts.answers_wanted, facts.wished)
    skill = facts.skill if facts.decision is Decision.WANTED else ""
    if facts.wished > answered:
        return Open(slots if facts.route is Route.HUMAN else facts.wished, facts.priority, skill)
    if facts.settled:
        return Closed("the label is gold or corrected")
    if facts.cancelled_at is not None and facts.decision_revision <= facts.cancelled_at:
        return Closed(facts.cancel_reason)
    if facts.decision is Decision.REACHED:
        return Closed("consensus was reached")
    if facts.decision in (Decision.DISPUTED, Decision.UNDECIDABLE):
        return Closed("the answers are disputed")
    if facts.route is Route.AUTO:
        return Closed("the item was labeled by the model")
    if facts.decision is Decision.WANTED or facts.route is Route.HUMAN:
        return Open(slots, facts.priority, skill)
    return None


def gold_wish(facts: ItemFacts, policy: ProjectPolicy) -> Wish:
    """Gold is open to every labeler, for good, unless it was called off."""
    if not (facts.imported and facts.gold):
        return None
    if facts.cancelled_at is not None:
        return Closed(facts.cancel_reason)
    return Open(policy.min_answers, 0.0)


def review_wish(facts: ItemFacts, policy: ProjectPolicy, answered: int) -> Wish:
    """What is wanted of reviewers, when `answered` reviews were given in time on the item's review task.

    As many as somebody asked for, whatever else is known; and one judgement when labelers cannot agree. Both are one
    task: whoever judges the item for the one has judged it for the other.
    """
    cancelled = facts.review_cancelled_at is not None and facts.decision_revision <= facts.review_cancelled_at
    disputed = _goes_to_a_reviewer(facts, policy) and not cancelled
    if disputed or facts.reviews_wished > answered:
        urgency = REVIEW_PRIORITY if disputed else 0.0
        return Open(max(facts.reviews_wished, 1), max(facts.review_priority, urgency))
    return Closed(facts.cancel_reason if cancelled else "no review is wanted any more")


def _goes_to_a_reviewer(facts: ItemFacts, policy: ProjectPolicy) -> bool:
    # The project may accept the best answer instead, if there is one; else nobody would ever give the item a label.
    accepted = facts.decision is Decision.DISPUTED and not policy.reviews_disputes
    disputed = facts.decision in (Decision.DISPUTED, Decision.UNDECIDABLE) and not accepted
    return facts.imported and disputed and not facts.settled and not facts.gold
