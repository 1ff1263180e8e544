"""The client for everybody else: the same calls, blocking, run by one event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from cairn_client.aio import AsyncCairn
from cairn_client.calls.audits import Audits as AsyncAudits
from cairn_client.calls.labelers import Labelers as AsyncLabelers
from cairn_client.calls.ledger import Ledger as AsyncLedger
from cairn_client.calls.models import Models as AsyncModels
from cairn_client.calls.projects import Projects as AsyncProjects
from cairn_client.calls.transfers import Exports as AsyncExports
from cairn_client.calls.transfers import Imports as AsyncImports
from cairn_client.profile import Profile, Service
from cairn_client.tokens import TokenProvider
from cairn_client.transport import Patience

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
T = TypeVar("T")

_AT_ONCE = 1000


class LoopThread:
    """An event loop that runs in a daemon thread until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cairn-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine there and wait for it; interrupting the wait cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def run_until_stopped(self, work: Callable[[asyncio.Event], Coroutine[Any, Any, R]]) -> R:
        """Run what ends well when its event is set: interrupting the wait sets it, doing so again cancels."""
        stop = asyncio.Event()

        async def begun() -> R:
            return await work(stop)

        future = asyncio.run_coroutine_threadsafe(begun(), self._loop)
        try:
            try:
                return future.result()
            except KeyboardInterrupt:
                self._loop.call_soon_threadsafe(stop.set)
                return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the loop and its thread."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Pull(Generic[T]):
    """Takes what an async iterator has ready, in lists: one hop between threads for up to a thousand
    elements."""

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._source = source
        self._coming: asyncio.Future[T] | None = None
        self._ended = False

    async def take(self) -> list[T]:
        """At least one element, or an empty list at the end."""
        taken: list[T] = []
        while not self._ended and len(taken) < _AT_ONCE:
            if self._coming is None:
                self._coming = asyncio.ensure_future(self._source.__anext__())
            if taken:
                await asyncio.sleep(0)
                if not self._coming.done():
                    break
            try:
                taken.append(await self._coming)
            except StopAsyncIteration:
                self._ended = True
            except BaseException:
                if not taken:
                    raise
                break  # what came before the error is handed over first; the error is met at the next take
            self._coming = None
        return taken

    async def close(self) -> None:
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


class _Blocking(Generic[A]):
    def __init__(self, inner: A, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop


def blocking(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Any, P], R]:
    """The blocking form of an async method, with its signature and docstring."""

    @functools.wraps(method)
    def call(_self: _Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return _self._loop.run(method(_self._inner, *args, **kwargs))

    return call


def iterating(
    method: Callable[Concatenate[A, P], AsyncIterator[R]],
) -> Callable[Concatenate[Any, P], Iterator[R]]:
    """The blocking form of an async generator method."""

    @functools.wraps(method)
    def call(_self: _Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        pull = _Pull(method(_self._inner, *args, **kwargs))
        try:
            while taken := _self._loop.run(pull.take()):
                yield from taken
        finally:
            _self._loop.run(pull.close())

    return call


def stoppable(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Any, P], R]:
    """The blocking form of an async method with an event `stop`, which an interrupt (Ctrl-C) sets."""

    @functools.wraps(method)
    def call(_self: _Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> R:
        def work(stop: asyncio.Event) -> Coroutine[Any, Any, R]:
            kwargs.setdefault("stop", stop)
            return method(_self._inner, *args, **kwargs)

        return _self._loop.run_until_stopped(work)

    return call


class Projects(_Blocking[AsyncProjects]):
    """Calls about projects."""

    create = blocking(AsyncProjects.create)
    get = blocking(AsyncProjects.get)
    list = iterating(AsyncProjects.list)
    update = blocking(AsyncProjects.update)
    archive = blocking(AsyncProjects.archive)
    delete = blocking(AsyncProjects.delete)
    progress = blocking(AsyncProjects.progress)
    watch = iterating(AsyncProjects.watch)
    conclude = blocking(AsyncProjects.conclude)
    labels_stand = blocking(AsyncProjects.labels_stand)
    refit = blocking(AsyncProjects.refit)


class Imports(_Blocking[AsyncImports]):
    """Calls about imports."""

    get = blocking(AsyncImports.get)
    list = iterating(AsyncImports.list)
    cancel = blocking(AsyncImports.cancel)


class Exports(_Blocking[AsyncExports]):
    """Calls about exports."""

    get = blocking(AsyncExports.get)
    list = iterating(AsyncExports.list)
    cancel = blocking(AsyncExports.cancel)


class Audits(_Blocking[AsyncAudits]):
    """Calls about audits."""

    create = blocking(AsyncAudits.create)
    get = blocking(AsyncAudits.get)
    list = iterating(AsyncAudits.list)
    cancel = blocking(AsyncAudits.cancel)
    findings = iterating(AsyncAudits.findings)


class Models(_Blocking[AsyncModels]):
    """Calls about models."""

    versions = iterating(AsyncModels.versions)
    version = blocking(AsyncModels.version)
    upload = blocking(AsyncModels.upload)
    promote = blocking(AsyncModels.promote)
    predict = blocking(AsyncModels.predict)
    predict_features = blocking(AsyncModels.predict_features)
    train = blocking(AsyncModels.train)
    training_runs = iterating(AsyncModels.training_runs)
    routing = blocking(AsyncModels.routing)
    stop_auto_labeling = blocking(AsyncModels.stop_auto_labeling)
    resume_auto_labeling = blocking(AsyncModels.resume_auto_labeling)


class Labelers(_Blocking[AsyncLabelers]):
    """Calls about labelers."""

    get = blocking(AsyncLabelers.get)
    list = iterating(AsyncLabelers.list)
    set_up = blocking(AsyncLabelers.set_up)
    reliabilities = iterating(AsyncLabelers.reliabilities)
    posteriors = iterating(AsyncLabelers.posteriors)


class Ledger(_Blocking[AsyncLedger]):
    """Calls about the ledger."""

    checkpoint = blocking(AsyncLedger.checkpoint)
    checkpoints = iterating(AsyncLedger.checkpoints)
    public_keys = blocking(AsyncLedger.public_keys)
    entries = iterating(AsyncLedger.entries)
    verify = blocking(AsyncLedger.verify)


class Cairn(_Blocking[AsyncCairn]):
    """Cairn's API, blocking: what scripts and notebooks use.

    Everyday verbs are methods of the client; the rest is grouped: `projects`, `imports`, `exports`,
    `audits`, `models`, `labelers`, `ledger`.
    Safe to use from several threads.
    """

    def __init__(
        self,
        *,
        home: Path | str | None = None,
        profile: Profile | None = None,
        addresses: Mapping[Service | str, str] | str | None = None,
        token: str | TokenProvider | None = None,
        patience: Patience | None = None,
    ) -> None:
        """See AsyncCairn: without arguments, Cairn is looked for in the environment and in `~/.cairn`."""
        inner = AsyncCairn(home=home, profile=profile, addresses=addresses, token=token, patience=patience)
        super().__init__(inner, LoopThread())
        self.projects = Projects(inner.projects, self._loop)
        self.imports = Imports(inner.imports, self._loop)
        self.exports = Exports(inner.exports, self._loop)
        self.audits = Audits(inner.audits, self._loop)
        self.models = Models(inner.models, self._loop)
        self.labelers = Labelers(inner.labelers, self._loop)
        self.ledger = Ledger(inner.ledger, self._loop)

    import_items = blocking(AsyncCairn.import_items)
    upload = blocking(AsyncCairn.upload)
    download = blocking(AsyncCairn.download)
    item = blocking(AsyncCairn.item)
    items = iterating(AsyncCairn.items)
    lease = blocking(AsyncCairn.lease)
    jobs = blocking(AsyncCairn.jobs)
    claim = blocking(AsyncCairn.claim)
    submit = blocking(AsyncCairn.submit)
    submit_many = blocking(AsyncCairn.submit_many)
    work = stoppable(AsyncCairn.work)
    skip = blocking(AsyncCairn.skip)
    release = blocking(AsyncCairn.release)
    extend = blocking(AsyncCairn.extend)
    queue = blocking(AsyncCairn.queue)
    watch_queue = iterating(AsyncCairn.watch_queue)
    tasks = iterating(AsyncCairn.tasks)
    labels = iterating(AsyncCairn.labels)
    label = blocking(AsyncCairn.label)
    label_revisions = iterating(AsyncCairn.label_revisions)
    watch_labels = iterating(AsyncCairn.watch_labels)
    annotations = iterating(AsyncCairn.annotations)
    export = blocking(AsyncCairn.export)

    @property
    def profile(self) -> Profile:
        """Where this client calls, and as whom."""
        return self._inner.profile

    def close(self) -> None:
        """Close all connections and end the thread."""
        self._loop.run(self._inner.close())
        self._loop.close()

    def __enter__(self) -> Cairn:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
