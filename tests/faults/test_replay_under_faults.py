"""P1, P2, P3, P5: whatever dies in the middle of a replay, it finishes as if nothing had happened.

The project asks for a fixed number of answers, so the order in which they arrive does not matter, and the labels
and posteriors of a disturbed run must equal those of an undisturbed one to the last bit. (With adaptive stopping
the order matters: which answers are bought depends on which came first; see ARCHITECTURE.md, decision 7.)
"""

import asyncio

import pytest

from cairn_client import AsyncCairn
from cairn_kit.testing import eventually
from cairn_stack import PrivateStack
from tests.faults.playing import (
    ANSWERS,
    SERVICES,
    Outcome,
    check_promises,
    compare,
    play,
    submitted_in_ledger,
)


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Outcome]:
    """Filled by the first test that needs it: the run that all others are compared with."""
    return {}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("service", SERVICES)
async def test_kill_9_of_a_service_changes_nothing(
    stack: PrivateStack, client: AsyncCairn, undisturbed: dict[str, Outcome], service: str
) -> None:
    replayed = await play(client, f"killed-{service}", lambda: stack.kill(service))
    await asyncio.to_thread(stack.wait_until_ready)
    await check_promises(client, replayed)
    await compare(client, replayed, undisturbed)


@pytest.mark.timeout(300)
async def test_kill_9_of_nats_changes_nothing(
    stack: PrivateStack, client: AsyncCairn, undisturbed: dict[str, Outcome]
) -> None:
    replayed = await play(client, "killed-nats", lambda: stack.kill("nats"))
    await asyncio.to_thread(stack.wait_until_ready)
    await check_promises(client, replayed)
    await compare(client, replayed, undisturbed)


@pytest.mark.timeout(300)
async def test_a_restart_of_postgres_changes_nothing(
    stack: PrivateStack, client: AsyncCairn, undisturbed: dict[str, Outcome]
) -> None:
    replayed = await play(client, "restarted-postgres", stack.restart_postgres)
    await asyncio.to_thread(stack.wait_until_ready)
    await check_promises(client, replayed)
    await compare(client, replayed, undisturbed)


@pytest.mark.timeout(300)
async def test_loss_of_the_whole_bus_is_mended_by_republishing(
    stack: PrivateStack, client: AsyncCairn, undisturbed: dict[str, Outcome]
) -> None:
    def lose_everything_and_send_it_again() -> None:
        stack.wipe_jetstream()
        stack.wait_until_ready()
        stack.republish()

    replayed = await play(client, "wiped-bus", lose_everything_and_send_it_again)
    await check_promises(client, replayed)
    await compare(client, replayed, undisturbed)

    async def every_submission_once() -> bool:
        events = await submitted_in_ledger(client, "wiped-bus")
        return len(events) == ANSWERS and set(events.values()) == {1}

    await eventually(every_submission_once, True, timeout=60)
    assert (await client.ledger.verify()).intact
