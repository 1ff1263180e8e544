"""dispatch as the benchmarks run it, without its doors, does what the service does."""

from tests.benchmarks.volume.dispatch import dispatch_running, imported, postgres_running, reached, routed


async def test_what_is_filled_by_statements_is_leased_answered_and_closed() -> None:
    async with postgres_running() as server, dispatch_running(server, "dispatch") as dispatch:
        await dispatch.project("filled", 20, answers=1)
        await dispatch.hear("filled", imported("filled", ["one", "more"]))
        await dispatch.hear("filled", routed("filled", [("one", 0.9), ("more", 0.9)]))
        leases = await dispatch.lease("filled", "ann", 30)
        assert len(leases) == 22
        await dispatch.answer("filled", leases[1:])
        await dispatch.hear("filled", *(reached(lease.item) for lease in leases[1:]))
        assert await dispatch.lease("filled", "bob") == []
        states = await dispatch.admin.fetch("SELECT state, count(*) FROM task GROUP BY state ORDER BY state")
        assert [tuple(row) for row in states] == [("CLOSED", 21), ("OPEN", 1)]
