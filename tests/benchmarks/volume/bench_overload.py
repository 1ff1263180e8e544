"""Five times the load that Cairn can carry: what is admitted is answered in bearable time, the rest refused at once.

Seconds of a call are from when it was due until its answer was taken up, and so hold what it waited in the process that
made it. On one machine that would be most of them: callers who want for the processor leave what they are told unread. So
all of Cairn runs after them, on what they leave of it. How late they were all the same is told beside the seconds, and
what they took of the machine.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import grpc

from tests.benchmarks.rows import Row, Rows
from tests.benchmarks.volume.load import drive
from tests.benchmarks.volume.machine import give_way, processor_seconds
from tests.benchmarks.volume.offered import Call, Offered, offer, quantile, turn
from tests.benchmarks.volume.targets import CairnProject, cairn_running

_ITEMS, _MORE_ITEMS = 80_000, 240_000
_CALLERS = 64
_TIMES = 5.0
_PROCESSES = 2  # that offer the load; more of them would only wait for each other
_WARM, _PEAK_SECONDS, _CALM = 4.0, 8.0, 10
_LONGEST_WAIT = 5.0  # what services are set to by default
# CANCELLED is what gRPC's core says of calls that wait for a server to take them up; the SDK repeats all three.
_REFUSED = {
    code.name
    for code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
}
_LEASE, _SUBMIT = "LeaseTasks", "SubmitAnnotation"
_BY_US = (
    "The service is at its limit"  # the words of a call that the gate refused; any others are gRPC's core's
)


def rows(full: bool) -> Rows:
    """Yield latencies and rates. ``full``: a minute of overload instead of fifteen seconds."""
    yield from asyncio.run(_measure(60.0, _MORE_ITEMS) if full else _measure(15.0, _ITEMS))


async def _measure(seconds: float, items: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with cairn_running(folder) as cairn:
            give_way(cairn.pids)
            project = await cairn.project(items)
            await drive(project, _CALLERS, 1, _WARM)
            calm = [call for number in range(_CALM) for call in await turn(project, number)]
            peak = (await drive(project, _CALLERS, 1, _PEAK_SECONDS)).rate
            used, began = processor_seconds(cairn.pids), perf_counter()
            offered = await offer(folder, project.name, _TIMES * peak, seconds, _PROCESSES)
            cores = (processor_seconds(cairn.pids) - used) / (perf_counter() - began)
            recovered = await _recovery(project, 2.0 * max(call.seconds for call in calm))
            afterwards = (await drive(project, _CALLERS, 1, _PEAK_SECONDS)).rate
    what = f"five times the peak of {peak:.0f} turns a second"
    return [
        *_answered(what, offered, seconds, peak, recovered),
        *_told_apart(what, offered, cores),
        # What others take of the machine meanwhile makes of five times ten.
        Row(f"{what}: the peak afterwards", "turns/s", afterwards, peak, "before"),
    ]


def _answered(
    what: str, offered: Sequence[Offered], seconds: float, peak: float, recovered: float
) -> list[Row]:
    calls = [call for one in offered for call in one.calls]
    done = [call for call in calls if call.code == "OK"]
    refused = [call for call in calls if call.code in _REFUSED]
    failures = Counter(
        f"{call.method} {call.code} {call.words}" for call in calls if call.code not in {"OK", *_REFUSED}
    )
    for failure, times in failures.most_common():
        print(f"        {times} times: {failure}")
    slow = quantile([call.seconds for call in refused], 0.99)
    return [
        Row(
            f"{what}: calls answered, p99",
            "s",
            quantile([call.seconds for call in done], 0.99),
            most=1.25 * _LONGEST_WAIT,
        ),
        Row(f"{what}: {len(refused)} of {len(calls)} calls refused, p99", "s", slow, most=1.0),
        Row(f"{what}: refused, median", "s", quantile([call.seconds for call in refused], 0.5), most=0.1),
        Row(f"{what}: calls answered", "/s", len(done) / seconds, 2 * peak, "at the peak", least=1.4 * peak),
        Row(f"{what}: answers to leases refused, of all", "", _share(refused, calls, _SUBMIT)),
        Row(f"{what}: requests for leases refused, of all", "", _share(refused, calls, _LEASE)),
        Row(f"{what}: calls neither answered nor refused", "", failures.total(), most=0.0),
        Row(f"{what}: from its end until calls are as fast as before", "s", recovered, most=5.0),
    ]


def _told_apart(what: str, offered: Sequence[Offered], cores: float) -> list[Row]:
    """What of it was the callers' own: how late their loops were, and the processor that they took from the servers."""
    calls = [call for one in offered for call in one.calls]
    late = [lateness for one in offered for lateness in one.late]
    refused = [call for call in calls if call.code in _REFUSED]
    by_us = [call.seconds for call in refused if call.words.startswith(_BY_US)]
    by_core = [call.seconds for call in refused if not call.words.startswith(_BY_US)]
    return [
        Row(f"{what}: {len(by_us)} refused by a service, median", "s", quantile(by_us, 0.5)),
        Row(f"{what}: {len(by_core)} refused by gRPC's core, median", "s", quantile(by_core, 0.5)),
        Row(
            f"{what}: calls left their process late, p99",
            "s",
            quantile([call.left - call.due for call in calls], 0.99),
        ),
        Row(f"{what}: loops of the callers' processes late, p99", "s", quantile(late, 0.99)),
        Row(
            f"{what}: processors taken by the callers",
            "",
            sum(one.cores for one in offered),
            cores,
            "all services, database and bus",
        ),
    ]


def _share(some: Sequence[Call], of: Sequence[Call], method: str) -> float:
    return sum(call.method == method for call in some) / max(sum(call.method == method for call in of), 1)


async def _recovery(project: CairnProject, fast: float) -> float:
    """Seconds until ten turns in a row, one after the other, have calls as fast as that."""
    began = perf_counter()
    in_a_row = 0
    while in_a_row < _CALM:
        calls = await turn(project, in_a_row)
        in_a_row = in_a_row + 1 if all(call.code == "OK" and call.seconds <= fast for call in calls) else 0
    return perf_counter() - began
