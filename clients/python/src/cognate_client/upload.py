"""Uploads: documents are packed into messages, and what the server answers is added up."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from cognate_client.documents import Document
from cognate_client.errors import CognateError, ItemsFailed, StatusError, of_status
from cognate_client.v1 import cognate_pb2 as pb

T = TypeVar("T")

AnyDocument = Document | pb.Document

#: Documents in a message at most: a few batches of the server.
MAX_DOCUMENTS = 256
#: Bytes in a message, unless a single document is larger: small enough for frequent progress.
TARGET_BYTES = 1 << 20


@dataclass(frozen=True)
class Refused:
    """A document that the server refused: its position in the upload from 0, its id, and the reason."""

    position: int
    id: str
    error: StatusError


@dataclass
class Progress:
    """The state of an upload; at its end, its result."""

    #: Documents that the server has read.
    received: int = 0
    #: Documents that are stored, synced and found by searches.
    committed: int = 0
    #: All refused documents until now.
    refused: list[Refused] = field(default_factory=list)
    #: Everything that was sent is committed or refused.
    done: bool = False

    @property
    def resume_from(self) -> int:
        """The position of the first document that is neither committed nor refused: an upload that broke goes on
        there. Documents that come twice do no harm, because they replace those with their ids."""
        return self.committed + len(self.refused)

    def raise_if_refused(self) -> None:
        """Raises `ItemsFailed` if a document was refused."""
        if self.refused:
            raise ItemsFailed({refused.position: refused.error for refused in self.refused}, {})

    def add(self, answer: pb.UploadResponse) -> None:
        """Adds the next answer of the server."""
        self.received, self.committed, self.done = answer.received, answer.committed, answer.done
        self.refused += [Refused(error.position, error.id, of_status(error.status)) for error in answer.errors]


class UploadBroken(CognateError):
    """An upload that ended early, because the call failed or the source of the documents: `cause` has the reason, and
    `progress` what is committed."""

    def __init__(self, progress: Progress, cause: Exception) -> None:
        super().__init__(progress, cause)
        self.progress = progress
        self.cause = cause

    def __str__(self) -> str:
        return f"the upload ended early, {self.progress.committed} documents are committed: {self.cause}"


class Packing:
    """Gathers documents until they make a message. If their source fails, the stream ends there, so that the server
    commits what it has, and `fault` says why."""

    def __init__(self, collection: str) -> None:
        self.fault: Exception | None = None
        self._message = pb.UploadRequest(collection=collection)
        self._bytes = 0

    def messages(self, documents: Iterable[AnyDocument]) -> Iterator[pb.UploadRequest]:
        """Packs documents as the server takes them."""
        try:
            for document in documents:
                yield from self._push(document)
        except Exception as fault:
            self.fault = fault
        yield self._message

    async def messages_async(
        self, documents: Iterable[AnyDocument] | AsyncIterable[AnyDocument]
    ) -> AsyncIterator[pb.UploadRequest]:
        """Does the same for a source of either kind."""
        try:
            async for document in either(documents):
                for message in self._push(document):
                    yield message
        except Exception as fault:
            self.fault = fault
        yield self._message

    def _push(self, document: AnyDocument) -> Iterator[pb.UploadRequest]:
        message = document.to_message() if isinstance(document, Document) else document
        size = message.ByteSize()
        full = len(self._message.documents) >= MAX_DOCUMENTS or self._bytes + size > TARGET_BYTES
        if full and self._message.documents:
            yield self._message
            self._message, self._bytes = pb.UploadRequest(), 0
        self._message.documents.append(message)
        self._bytes += size


async def either(source: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """Reads a source of either kind."""
    if isinstance(source, AsyncIterable):
        async for each in source:
            yield each
    else:
        for each in source:
            yield each
