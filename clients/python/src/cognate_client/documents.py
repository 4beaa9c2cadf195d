"""What goes into a collection and comes out of searches, as Python objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cognate_client.metadata import of_struct, of_value, to_struct
from cognate_client.v1 import cognate_pb2 as pb
from cognate_client.vectors import FloatArray, to_array, to_vector


@dataclass
class Document:
    """A document. Without a vector the server embeds the text."""

    id: str
    text: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: Not compared by ==, which numpy does number by number.
    vector: FloatArray | Sequence[float] | None = field(default=None, compare=False)

    def to_message(self) -> pb.Document:
        vector = None if self.vector is None else to_vector(self.vector)
        return pb.Document(id=self.id, text=self.text, metadata=to_struct(self.metadata), vector=vector)

    @staticmethod
    def of_message(message: pb.Document) -> Document:
        vector = to_array(message.vector) if message.HasField("vector") else None
        return Document(message.id, message.text, of_struct(message.metadata), vector)


@dataclass(frozen=True)
class ById:
    """The query that is the vector of a document of the collection."""

    id: str


#: A query by text, by a vector, by a document's vector, or as message.
Query = str | FloatArray | Sequence[float] | ById | pb.Query


def to_query(query: Query) -> pb.Query:
    """Makes the message of a query."""
    if isinstance(query, pb.Query):
        return query
    if isinstance(query, str):
        return pb.Query(text=query)
    return pb.Query(id=query.id) if isinstance(query, ById) else pb.Query(vector=to_vector(query))


@dataclass(frozen=True)
class Hit:
    """A document, or a candidate, that was found."""

    #: The id of the document; empty for a candidate.
    id: str
    #: Higher is better; its range depends on the mode of the search.
    score: float
    text: str
    metadata: dict[str, Any]
    vector: FloatArray | None = field(compare=False)
    #: The position of the candidate; None for a document.
    candidate: int | None
    #: With `group_by`: the value of the field.
    group: Any
    #: Everything that the server sent: passages, parts of the score.
    message: pb.Hit = field(repr=False)

    @staticmethod
    def of_message(hit: pb.Hit) -> Hit:
        return Hit(
            id=hit.id,
            score=hit.score,
            text=hit.text,
            metadata=of_struct(hit.metadata),
            vector=to_array(hit.vector) if hit.HasField("vector") else None,
            candidate=hit.candidate if hit.HasField("candidate") else None,
            group=of_value(hit.group) if hit.HasField("group") else None,
            message=hit,
        )


@dataclass(frozen=True)
class Classification:
    """The labels of a text."""

    label: str
    score: float
    #: The listed labels, best first.
    scores: dict[str, float]

    @staticmethod
    def of_message(result: pb.ClassifyResult) -> Classification:
        found = result.classification
        return Classification(found.label, found.score, {each.label: each.score for each in found.scores})


@dataclass(frozen=True)
class Ranked:
    """A text that a reranker scored."""

    #: The position of the text in the request.
    index: int
    score: float


@dataclass(frozen=True)
class Page:
    """Some documents of a collection, in the order of their ids."""

    documents: list[Document]
    #: The token of the next page; empty after the last one.
    next_page_token: str


@dataclass(frozen=True)
class Deleted:
    """The result of a deletion: ids that were deleted, ids that did not exist, and the number of documents."""

    ids: list[str]
    missing: list[str]
    documents: int


def to_rows(vectors: Sequence[FloatArray]) -> FloatArray:
    """Joins vectors to an array of [n, dimensions]."""
    return np.stack(vectors) if vectors else np.empty((0, 0), np.float32)
