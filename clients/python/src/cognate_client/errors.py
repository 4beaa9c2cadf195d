"""Errors, with the details that the server sends along.

A call that fails raises the class of its code, with the content of BadRequest, ResourceInfo, QuotaFailure and
RetryInfo as attributes. Answers in which some items have an error raise `ItemsFailed`, which holds the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import grpc
from google.rpc.error_details_pb2 import BadRequest, QuotaFailure, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status

T = TypeVar("T")
Detail = TypeVar("Detail", BadRequest, QuotaFailure, ResourceInfo, RetryInfo)

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class Resource(NamedTuple):
    """What was not found, or exists already: a collection, document, classifier or reranker."""

    type: str
    name: str


class CognateError(Exception):
    """Any error of this package that a server or the way to it causes."""


class StatusError(CognateError):
    """A call, or one item of it, that failed with a status. Each code has a class of its own, see below."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status
        self.code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
        self.message = status.message
        violations = [violation for detail in self._details(BadRequest) for violation in detail.field_violations]
        quotas = [violation.subject for detail in self._details(QuotaFailure) for violation in detail.violations]
        resources = [Resource(detail.resource_type, detail.resource_name) for detail in self._details(ResourceInfo)]
        delays = [detail.retry_delay for detail in self._details(RetryInfo)]
        #: The fields of the request that are wrong (`texts[1]`), with the reason of each.
        self.fields = {violation.field: violation.description for violation in violations}
        #: The limits that are reached.
        self.quotas = quotas
        #: What does not exist, or exists already.
        self.resource = resources[0] if resources else None
        #: Seconds after which the call may be repeated; None: repeating it does not help.
        self.retry_after: float | None = delays[0].seconds + delays[0].nanos / 1e9 if delays else None

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    def _details(self, kind: type[Detail]) -> list[Detail]:
        found = []
        for packed in self.status.details:
            detail = kind()
            if packed.Unpack(detail):
                found.append(detail)
        return found


class Cancelled(StatusError):
    """The call was cancelled."""


class InvalidArgument(StatusError):
    """The request is wrong: see `fields`."""


class DeadlineExceeded(StatusError):
    """The deadline passed."""


class NotFound(StatusError):
    """The collection, id, classifier or reranker in `resource` does not exist."""


class AlreadyExists(StatusError):
    """The collection in `resource` exists."""


class PermissionDenied(StatusError):
    """The role of the key does not allow the call, or the collection is not among its own."""


class ResourceExhausted(StatusError):
    """The server is busy (`retry_after`), a limit is reached (`quotas`), or an answer is too large."""


class FailedPrecondition(StatusError):
    """Another model filled the collection, or the server stores nothing on disk."""


class Aborted(StatusError):
    """Another backup runs, or the answers of an export were not taken."""


class OutOfRange(StatusError):
    """The request is larger than `max_message_bytes` of the server."""


class Internal(StatusError):
    """A fault of the server."""


class Unavailable(StatusError):
    """No server answers, it is starting or stopping (`retry_after`), or its disk failed."""


class Unauthenticated(StatusError):
    """The server has keys, and the call has no valid one."""


_CLASSES: dict[grpc.StatusCode, type[StatusError]] = {
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.INTERNAL: Internal,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
}


class ItemsFailed(CognateError):
    """Some items of a call have an error: `errors` by position, and `results` of the other positions."""

    def __init__(self, errors: dict[int, StatusError], results: dict[int, Any]) -> None:
        super().__init__(errors, results)
        self.errors = errors
        self.results = results

    def __str__(self) -> str:
        position, error = next(iter(self.errors.items()))
        return f"{len(self.errors)} items failed, the first at position {position}: {error}"


def of_status(status: Status) -> StatusError:
    """Makes the error of a status."""
    return _CLASSES.get(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), StatusError)(status)


def of_call(error: grpc.RpcError) -> StatusError:
    """Makes the error of a failed call, with the details in its trailers."""
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return of_status(Status.FromString(value))
    return of_status(Status(code=error.code().value[0], message=error.details() or ""))


def each(results: Iterable[Any], read: Callable[[Any], T]) -> list[T]:
    """Reads each result of an answer, or raises `ItemsFailed` if one of them is an error."""
    good, errors = {}, {}
    for position, result in enumerate(results):
        if result.HasField("error"):
            errors[position] = of_status(result.error)
        else:
            good[position] = read(result)
    if errors:
        raise ItemsFailed(errors, good)
    return list(good.values())
