"""The client for asyncio, with the methods of `cognate_client.Client`.

async with aio.connect("127.0.0.1:50051") as client:
    hits = await client.top_k("words", "a vehicle on rails", k=3)
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc
import grpc.aio
from typing_extensions import Self

from cognate_client import calls, errors
from cognate_client.connection import MAX_ANSWER_BYTES, Target, Tls, target
from cognate_client.documents import Document
from cognate_client.filters import AnyFilter
from cognate_client.retry import Attempts
from cognate_client.upload import AnyDocument, Packing, Progress, UploadBroken, either
from cognate_client.v1 import cognate_pb2 as pb
from cognate_client.v1.cognate_pb2_grpc import CognateStub

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M")
A = TypeVar("A")


def connect(
    address: str,
    *,
    tls: Tls | None = None,
    key: str | None = None,
    timeout: float | None = 60,
    attempts: int = 3,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
) -> AsyncClient:
    """Returns a client for the running event loop. The parameters are those of `cognate_client.connect`."""
    return AsyncClient(_channel(target(address, tls, key, max_answer_bytes)), timeout, attempts)


def _channel(to: Target) -> grpc.aio.Channel:
    if to.credentials is None:
        return grpc.aio.insecure_channel(to.address, to.options)
    return grpc.aio.secure_channel(to.address, to.credentials, to.options)


def _awaited(
    call: Callable[P, calls.Call[T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """Makes a method whose result is awaited."""

    @functools.wraps(call)
    async def method(client: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client._run(call(*args, **kwargs))

    return method


class AsyncClient:
    """A connection to a server, for one event loop. `stub` has every call as the contract has it."""

    info = _awaited(calls.info)
    embed = _awaited(calls.embed)
    similarity = _awaited(calls.similarity)
    classify = _awaited(calls.classify)
    rerank = _awaited(calls.rerank)
    top_k = _awaited(calls.top_k)
    top_k_each = _awaited(calls.top_k_each)
    rank = _awaited(calls.rank)
    get_documents = _awaited(calls.get_documents)
    list_documents = _awaited(calls.list_documents)
    delete_documents = _awaited(calls.delete_documents)
    update_documents = _awaited(calls.update_documents)
    count_documents = _awaited(calls.count_documents)
    create_collection = _awaited(calls.create_collection)
    list_collections = _awaited(calls.list_collections)
    delete_collection = _awaited(calls.delete_collection)

    def __init__(
        self, channel: grpc.aio.Channel, timeout: float | None, attempts: int, stream_timeout: float | None = None
    ) -> None:
        self.channel = channel
        self.stub = CognateStub(channel)
        self._timeout, self._stream_timeout, self._attempts = timeout, stream_timeout, attempts

    def within(self, seconds: float | None) -> AsyncClient:
        """Returns a client on the same connection whose calls, uploads and exports too, have this deadline."""
        return AsyncClient(self.channel, seconds, self._attempts, seconds)

    async def upload(
        self,
        collection: str,
        documents: Iterable[AnyDocument] | AsyncIterable[AnyDocument],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Progress:
        """Stores documents from an iterable of either kind, like `Client.upload`."""
        packing, progress = Packing(collection), Progress()

        def take(answer: pb.UploadResponse) -> int:
            progress.add(answer)
            if on_progress is not None:
                on_progress(progress)
            return progress.received

        call = self.stub.Upload(timeout=self._stream_timeout)
        try:
            await _exchange(call, packing.messages_async(documents), lambda message: len(message.documents), take)
        except grpc.aio.AioRpcError as error:
            raise UploadBroken(progress, errors.of_call(error)) from None
        if packing.fault is not None:
            raise UploadBroken(progress, packing.fault) from packing.fault
        return progress

    async def export(
        self, collection: str, *, filter: AnyFilter | None = None, with_vector: bool = False
    ) -> AsyncIterator[Document]:
        """Returns the documents of a collection one by one, as they are at one moment."""
        parts = self.stub.Export(calls.export(collection, filter, with_vector), timeout=self._stream_timeout)
        try:
            async for part in parts:
                for document in part.documents:
                    yield Document.of_message(document)
        except grpc.aio.AioRpcError as error:
            raise errors.of_call(error) from None
        finally:
            parts.cancel()

    async def close(self) -> None:
        """Closes the connection. Calls in progress end."""
        await self.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, call: calls.Call[T]) -> T:
        attempts = Attempts(self._attempts, self._timeout)
        method: Any = getattr(self.stub, call.method)
        while True:
            try:
                if isinstance(call.request, list):
                    answers: list[Any] = []

                    def take(answer: Any, answers: list[Any] = answers) -> int:
                        answers.append(answer)
                        return len(answers)

                    await _exchange(method(timeout=attempts.timeout()), either(call.request), lambda _: 1, take)
                    return call.read(answers)
                return call.read(await method(call.request, timeout=attempts.timeout()))
            except grpc.aio.AioRpcError as error:
                pause = attempts.pause(errors.of_call(error))
            await asyncio.sleep(pause)


#: Messages of a stream that may be sent before they are answered: as many as the server reads ahead. So no message
#: waits to be written when the server ends the call. If one does, grpcio replaces the status by INTERNAL
#: (grpc/grpc#36066).
MESSAGES_AHEAD = 4


async def _exchange(
    call: grpc.aio.StreamStreamCall[M, A],
    messages: AsyncIterable[M],
    items: Callable[[M], int],
    take: Callable[[A], int],
) -> None:
    """Sends messages and takes the answers. `items` counts those of a message; `take` returns the number of items that
    are answered until now."""
    free, ends = asyncio.Semaphore(MESSAGES_AHEAD), deque[int]()

    async def send() -> None:
        sent = 0
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the end of the call: read says why
            async for message in messages:
                await free.acquire()
                sent += items(message)
                ends.append(sent)
                await call.write(message)
            await call.done_writing()

    sender = asyncio.create_task(send())
    sender.add_done_callback(lambda sender: None if sender.cancelled() or not sender.exception() else call.cancel())
    try:
        while (answer := await call.read()) is not grpc.aio.EOF:
            answered = take(answer)  # type: ignore[arg-type]
            while ends and ends[0] <= answered:
                ends.popleft()
                free.release()
    finally:
        call.cancel()
        sender.cancel()
        await asyncio.wait([sender])
        if not sender.cancelled() and (fault := sender.exception()):
            raise fault
