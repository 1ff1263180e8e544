"""Features of items: which are wanted, which are there, and which there will never be."""

from __future__ import annotations

from collections.abc import Sequence

from cairn_inference.domain.features import Content
from cairn_inference.records import Featured, ItemRef, Unfeatured
from cairn_inference.store.rows import Reader, item_columns, item_ref
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_inference", "sql/features.sql")


class FeatureStore:
    """The queue of items without features, and packed features."""

    async def items_to_featurise(self, reader: Reader, limit: int) -> list[Unfeatured]:
        """Items whose features are wanted now: as many of each project, as far as it has any, longest waiting first."""
        return [
            Unfeatured(item_ref(row), Content(row["content"]), row["body"], row["blob"], row["feature_tries"])
            for row in await reader.fetch(SQL.items_to_featurise, limit)
        ]

    async def keep_features(self, tx: Transaction, made: Sequence[tuple[ItemRef, str, bytes]]) -> None:
        """Write features: item, extraction, packed vector."""
        if made:
            await tx.execute(
                SQL.keep_features,
                *item_columns([ref for ref, _, _ in made]),
                [spec for _, spec, _ in made],
                [vector for _, _, vector in made],
            )

    async def give_up_features(self, tx: Transaction, why: Sequence[tuple[ItemRef, str]]) -> None:
        """Note that there will be no features, and why."""
        if why:
            await tx.execute(
                SQL.give_up_features, *item_columns([ref for ref, _ in why]), [reason for _, reason in why]
            )

    async def postpone_features(self, tx: Transaction, refs: Sequence[ItemRef]) -> None:
        """Try these again later, with growing pauses up to a minute."""
        if refs:
            await tx.execute(SQL.postpone_features, *item_columns(refs))

    async def features_of(self, reader: Reader, refs: Sequence[ItemRef]) -> dict[ItemRef, Featured]:
        """Features of the known ones among different items."""
        rows = await reader.fetch(SQL.features_of, *item_columns(refs))
        return {item_ref(row): Featured(row["spec"], row["vector"], row["feature_error"]) for row in rows}
