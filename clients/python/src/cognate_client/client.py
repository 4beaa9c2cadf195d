"""The client for programs with threads. `cognate_client.aio` has the one for asyncio."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc
from typing_extensions import Self

from cognate_client import calls, errors
from cognate_client.connection import MAX_ANSWER_BYTES, Target, Tls, target
from cognate_client.documents import Document
from cognate_client.filters import AnyFilter
from cognate_client.retry import Attempts
from cognate_client.upload import AnyDocument, Packing, Progress, UploadBroken
from cognate_client.v1.cognate_pb2_grpc import CognateStub

P = ParamSpec("P")
T = TypeVar("T")


def connect(
    address: str,
    *,
    tls: Tls | None = None,
    key: str | None = None,
    timeout: float | None = 60,
    attempts: int = 3,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
) -> Client:
    """Returns a client for `host:port`, `https://host:port` or `unix:path`. The first call makes the connection.

    `timeout`: seconds for a call with all its attempts; None: no deadline. Uploads and exports have none, see
    `Client.within`. `attempts`: tries of a call for which the server sends RetryInfo; other calls are never repeated.
    """
    return Client(_channel(target(address, tls, key, max_answer_bytes)), timeout, attempts)


def _channel(to: Target) -> grpc.Channel:
    if to.credentials is None:
        return grpc.insecure_channel(to.address, to.options)
    return grpc.secure_channel(to.address, to.credentials, to.options)


def _blocking(call: Callable[P, calls.Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """Makes a method that waits for the answer of the call."""

    @functools.wraps(call)
    def method(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client._run(call(*args, **kwargs))

    return method


class Client:
    """A connection to a server. Threads may share it. `stub` has every call as the contract has it."""

    info = _blocking(calls.info)
    embed = _blocking(calls.embed)
    similarity = _blocking(calls.similarity)
    classify = _blocking(calls.classify)
    rerank = _blocking(calls.rerank)
    top_k = _blocking(calls.top_k)
    top_k_each = _blocking(calls.top_k_each)
    rank = _blocking(calls.rank)
    get_documents = _blocking(calls.get_documents)
    list_documents = _blocking(calls.list_documents)
    delete_documents = _blocking(calls.delete_documents)
    update_documents = _blocking(calls.update_documents)
    count_documents = _blocking(calls.count_documents)
    create_collection = _blocking(calls.create_collection)
    list_collections = _blocking(calls.list_collections)
    delete_collection = _blocking(calls.delete_collection)

    def __init__(
        self, channel: grpc.Channel, timeout: float | None, attempts: int, stream_timeout: float | None = None
    ) -> None:
        self.channel = channel
        self.stub = CognateStub(channel)
        self._timeout, self._stream_timeout, self._attempts = timeout, stream_timeout, attempts

    def within(self, seconds: float | None) -> Client:
        """Returns a client on the same connection whose calls, uploads and exports too, have this deadline."""
        return Client(self.channel, seconds, self._attempts, seconds)

    def upload(
        self, collection: str, documents: Iterable[AnyDocument], on_progress: Callable[[Progress], None] | None = None
    ) -> Progress:
        """Stores documents, and creates the collection if it does not exist. `documents` is read in another thread,
        as fast as the server stores. `on_progress` is called when batches are committed.

        Refused documents are in the result. `UploadBroken` if the upload ends early.
        """
        packing, progress = Packing(collection), Progress()
        answers = self.stub.Upload(packing.messages(documents), timeout=self._stream_timeout)
        try:
            for answer in answers:
                progress.add(answer)
                if on_progress is not None:
                    on_progress(progress)
        except grpc.RpcError as error:
            raise UploadBroken(progress, errors.of_call(error)) from None
        finally:
            answers.cancel()
        if packing.fault is not None:
            raise UploadBroken(progress, packing.fault) from packing.fault
        return progress

    def export(
        self, collection: str, *, filter: AnyFilter | None = None, with_vector: bool = False
    ) -> Iterator[Document]:
        """Returns the documents of a collection one by one, as they are at one moment."""
        parts = self.stub.Export(calls.export(collection, filter, with_vector), timeout=self._stream_timeout)
        try:
            for part in parts:
                yield from map(Document.of_message, part.documents)
        except grpc.RpcError as error:
            raise errors.of_call(error) from None
        finally:
            parts.cancel()

    def close(self) -> None:
        """Closes the connection. Calls in progress end."""
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: calls.Call[T]) -> T:
        attempts = Attempts(self._attempts, self._timeout)
        method: Any = getattr(self.stub, call.method)
        while True:
            try:
                if isinstance(call.request, list):
                    return call.read(list(method(iter(call.request), timeout=attempts.timeout())))
                return call.read(method(call.request, timeout=attempts.timeout()))
            except grpc.RpcError as error:
                pause = attempts.pause(errors.of_call(error))
            time.sleep(pause)
