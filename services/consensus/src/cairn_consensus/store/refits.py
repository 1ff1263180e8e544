"""Refits that are asked for, by calls or by the growth of votes: how far each is, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.store.rows import ProjectKey, Rows
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_consensus", "sql/refits.sql")


@dataclass(frozen=True, slots=True)
class WhichRefit:
    """A refit of a project: the one that calls asked for under this number; None: the one that was due by the votes."""

    key: ProjectKey
    asked: int | None = None

    @property
    def columns(self) -> tuple[str, str, int | None]:
        """One that was asked for, as every statement about it takes it."""
        return *self.key.columns, self.asked


@dataclass(frozen=True, slots=True)
class Refitting:
    """How far a refit is: up to which item all were judged by it (None: it is not fitted yet), and what its fit has changed.

    Of one that calls asked for also whether it concludes, the labels that it announced (an item's once, even where it
    began anew by another fit and came to another), its fit's number and the votes of that: those heard of when it was begun,
    and then those that it was made of; ``forsaken``: a conclusion that has come to nothing, and for an hour nobody has asked
    or waited for it.
    """

    judged_until: str | None
    changed_items: int = 0
    announced_labels: int = 0
    concludes: bool = False
    refit: int = 0
    votes: int = 0
    forsaken: bool = False


@dataclass(frozen=True, slots=True)
class AskedRefit:
    """What calls asked for, under which number: how far it is, whether it has ended, and how its next step goes.

    ``failures``: how often it ended with an error; ``tries``: how often it was begun since, by processes that were killed
    or are at it; ``put_off``: seconds until it may be begun again.
    """

    number: int
    ended: bool
    failures: int
    tries: int
    put_off: float
    refitting: Refitting


class RefitStore:
    """Refits and conclusions."""

    async def ask_for_refit(self, tx: Transaction, key: ProjectKey) -> None:
        """Write down that a project is to be fitted again, unless that is under way."""
        await tx.execute(SQL.ask_for_refit, *key.columns)

    async def asked_by(
        self, tx: Transaction, key: ProjectKey, concludes: bool, requests: Sequence[str]
    ) -> int | None:
        """The number of what any of these requests has asked for before."""
        number: int | None = await tx.fetchval(SQL.asked_by, *key.columns, concludes, requests)
        return number

    async def note_wanted(self, rows: Rows, which: WhichRefit, concludes: bool) -> None:
        """Write down that somebody wants still what calls asked for, or what has taken that over."""
        await rows.execute(SQL.note_wanted, *which.columns, concludes)

    async def join_asked_refit(
        self,
        tx: Transaction,
        key: ProjectKey,
        concludes: bool,
        requests: Sequence[str],
        votes: int,
        project_revision: int,
    ) -> int | None:
        """The number of what is under way and made of no fewer votes, which these requests ask for, too."""
        number: int | None = await tx.fetchval(
            SQL.join_asked_refit, *key.columns, concludes, requests, votes, project_revision
        )
        return number

    async def begin_asked_refit(
        self, tx: Transaction, key: ProjectKey, concludes: bool, requests: Sequence[str]
    ) -> int:
        """Write down that these requests ask for a refit; its number."""
        number: int = await tx.fetchval(SQL.begin_asked_refit, *key.columns, concludes, requests)
        return number

    async def forgettable_refits(self, rows: Rows, age: float, most: int) -> list[WhichRefit]:
        """So many of those that ended ``age`` seconds ago, or whose project is gone."""
        found = await rows.fetch(SQL.forgettable_refits, age, most)
        return [WhichRefit(ProjectKey(row["tenant"], row["project"]), row["number"]) for row in found]

    async def forget_undecided(self, rows: Rows, which: WhichRefit, most: int) -> bool:
        """Forget so many of the items that a conclusion could not decide; whether there were any."""
        return await rows.execute(SQL.forget_undecided, *which.columns, most) != "DELETE 0"

    async def forget_asked_refit(self, rows: Rows, which: WhichRefit) -> None:
        """Forget what came of one."""
        await rows.execute(SQL.forget_asked_refit, *which.columns)

    async def asked_refit(self, rows: Rows, which: WhichRefit, concludes: bool) -> AskedRefit | None:
        """What calls asked for, or what has taken that over; None where the project is gone."""
        row = await rows.fetchrow(SQL.asked_refit, *which.columns, concludes)
        if row is None:
            return None
        number, ended, failures, tries, put_off, *how_far = row
        return AskedRefit(number, ended, failures, tries, put_off, Refitting(*how_far))

    async def refits_under_way(self, rows: Rows) -> dict[WhichRefit, bool]:
        """The refits that were asked for, in that order, those by calls before the others: whether whoever has not begun
        may begin now."""
        found = await rows.fetch(SQL.refits_under_way)
        return {
            WhichRefit(ProjectKey(row["tenant"], row["project"]), row["number"]): row["due"] for row in found
        }

    async def refit_under_way(self, tx: Transaction, which: WhichRefit) -> Refitting | None:
        """How far a refit is, if it is under way."""
        if which.asked is None:
            row = await tx.fetchrow(SQL.refit_under_way, *which.key.columns)
        else:
            row = await tx.fetchrow(SQL.asked_refit_under_way, *which.columns)
        return None if row is None else Refitting(*row)

    async def note_try(self, rows: Rows, which: WhichRefit) -> None:
        """Write down that somebody goes on with a refit: nobody tries at once again, should that take the process down."""
        if which.asked is None:
            await rows.execute(SQL.note_try, *which.key.columns)
        else:
            await rows.execute(SQL.note_asked_try, *which.columns)

    async def note_left(self, rows: Rows, which: WhichRefit) -> None:
        """Write down that whoever went on with a refit lets go of it, unharmed: another may go on at once."""
        if which.asked is None:
            await rows.execute(SQL.note_left, *which.key.columns)
        else:
            await rows.execute(SQL.note_asked_left, *which.columns)

    async def note_failure(self, rows: Rows, which: WhichRefit) -> None:
        """Write down, for the calls that asked for it, that a step ended with an error."""
        if which.asked is not None:
            await rows.execute(SQL.note_failure, *which.columns)

    async def note_fit_begun(
        self, tx: Transaction, which: WhichRefit, votes: int, project_revision: int
    ) -> None:
        """Write down of what a fit that calls asked for is made: who asks later for no more can have the same.

        Those of its kind before it are taken over: it does what they were asked for.
        """
        if which.asked is not None:
            await tx.execute(SQL.note_fit_begun, *which.columns, votes, project_revision)

    async def note_step(self, tx: Transaction, which: WhichRefit, now: Refitting) -> None:
        """Write down how far a refit is, and that somebody goes on with it."""
        if which.asked is None:
            await tx.execute(SQL.note_step, *which.key.columns, now.judged_until, now.changed_items)
        else:
            await tx.execute(
                SQL.note_asked_step,
                *which.columns,
                now.judged_until,
                now.changed_items,
                now.announced_labels,
                now.refit,
                now.votes,
            )

    async def end_refit(self, tx: Transaction, which: WhichRefit) -> None:
        """A refit is not under way any more; what came of one that calls asked for is kept.

        A conclusion takes over the refits before it: it has done what they were asked for.
        """
        if which.asked is None:
            await tx.execute(SQL.end_refit, *which.key.columns)
        else:
            await tx.execute(SQL.end_asked_refit, *which.columns)

    async def give_up_refit(self, tx: Transaction, which: WhichRefit) -> None:
        """A conclusion has ended without an outcome: whoever asks for it again begins another."""
        await tx.execute(SQL.give_up_asked_refit, *which.columns)

    async def owe_judging(self, tx: Transaction, key: ProjectKey) -> None:
        """Write down that all items are to be judged by a fit that calls asked for, should their refit not do it."""
        await tx.execute(SQL.owe_judging, *key.columns)

    async def pay_judging(self, tx: Transaction, key: ProjectKey) -> bool:
        """They are; whether it was not told yet."""
        return bool(await tx.fetchval(SQL.pay_judging, *key.columns))

    async def note_announced(self, tx: Transaction, which: WhichRefit, items: Sequence[ItemKey]) -> int:
        """Write down that a conclusion announced the labels of these items; of how many it had not before."""
        return len(await tx.fetch(SQL.note_announced, *which.columns, items))

    async def add_undecided(
        self, tx: Transaction, which: WhichRefit, refit: int, items: Sequence[ItemKey]
    ) -> None:
        """Keep items that a conclusion could not decide by a fit."""
        await tx.execute(SQL.add_undecided, *which.columns, refit, items)

    async def undecided(self, rows: Rows, which: WhichRefit, refit: int) -> list[ItemKey]:
        """The items that a conclusion could not decide by a fit, in order."""
        return [row["item"] for row in await rows.fetch(SQL.undecided, *which.columns, refit)]
