"""The calls with one answer, each written once for both clients: its request, and how its answer is read.

A function here is a method of `Client` and `AsyncClient`, with its name, parameters and documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar

import numpy as np
from google.protobuf.message import Message
from typing_extensions import Unpack

from cognate_client.documents import (
    Classification,
    Deleted,
    Document,
    Hit,
    Page,
    Query,
    Ranked,
    to_query,
    to_rows,
)
from cognate_client.errors import each
from cognate_client.filters import AnyFilter, to_message
from cognate_client.metadata import to_struct
from cognate_client.v1 import cognate_pb2 as pb
from cognate_client.vectors import FORMAT, FloatArray, format_if, to_array

T_co = TypeVar("T_co", covariant=True)

#: Texts of one call of `embed`; more go through a stream, which waits where a call would be refused.
TEXTS_OF_A_CALL = 256
#: Texts of one message of such a stream.
TEXTS_OF_A_MESSAGE = 64


@dataclass(frozen=True)
class Call(Generic[T_co]):
    """A call: the method, its request (or the requests of a stream), and the reader of its answer (or answers)."""

    method: str
    request: Message | Sequence[Message]
    read: Callable[[Any], T_co]


class EmbedOptions(TypedDict, total=False):
    """The other fields of `EmbedRequest`; the contract explains them."""

    input_type: pb.InputType.ValueType
    normalize: bool
    dimensions: int
    truncation: pb.Truncation.ValueType
    model: str


class TopKOptions(TypedDict, total=False):
    """The other fields of `TopKRequest`; the contract explains them."""

    min_score: float
    params: pb.SearchParams
    diversity: float
    group_by: str
    group_size: int
    mode: pb.SearchMode.ValueType
    fusion: pb.Fusion.ValueType
    lexical_weight: float
    rerank: pb.Rerank
    passages_per_document: int
    with_passage_text: bool


def info() -> Call[pb.InfoResponse]:
    """Returns version, model and limits of the server."""
    return Call("Info", pb.InfoRequest(), lambda answer: answer)


def embed(texts: Sequence[str], **options: Unpack[EmbedOptions]) -> Call[FloatArray]:
    """Returns the vectors of any number of texts, [n, dimensions]. `ItemsFailed` if a text cannot be embedded."""

    def read(answers: Sequence[pb.EmbedResponse]) -> FloatArray:
        results = [result for answer in answers for result in answer.results]
        return to_rows(each(results, lambda result: to_array(result.vector)))

    if len(texts) <= TEXTS_OF_A_CALL:
        request = pb.EmbedRequest(texts=texts, format=FORMAT, **options)
        return Call("Embed", request, lambda answer: read([answer]))
    parts = [texts[start : start + TEXTS_OF_A_MESSAGE] for start in range(0, len(texts), TEXTS_OF_A_MESSAGE)]
    return Call("EmbedStream", [pb.EmbedRequest(texts=part, format=FORMAT, **options) for part in parts], read)


def similarity(
    a: Sequence[str],
    b: Sequence[str] = (),
    *,
    input_type: pb.InputType.ValueType = pb.INPUT_TYPE_UNSPECIFIED,
    model: str = "",
) -> Call[FloatArray]:
    """Returns the cosines of each text of `a` (rows) to each of `b`, or to each of `a` if there is no `b`."""

    def read(answer: pb.SimilarityResponse) -> FloatArray:
        return np.array([row.scores for row in answer.rows], np.float32)

    return Call("Similarity", pb.SimilarityRequest(a=a, b=b, input_type=input_type, model=model), read)


def classify(
    texts: Sequence[str], *, model: str = "", top_n: int = 0, min_score: float | None = None
) -> Call[list[Classification]]:
    """Returns the labels of each text, by the classifier `model`. `ItemsFailed` if a text has none."""
    request = pb.ClassifyRequest(texts=texts, model=model, top_n=top_n, min_score=min_score)
    return Call("Classify", request, lambda answer: each(answer.results, Classification.of_message))


def rerank(query: str, texts: Sequence[str], *, model: str = "", top_n: int = 0) -> Call[list[Ranked]]:
    """Orders texts by how well they answer a query, best first, by the reranker `model`."""

    def read(answer: pb.RerankResponse) -> list[Ranked]:
        return each(answer.results, lambda result: Ranked(result.index, result.score))

    return Call("Rerank", pb.RerankRequest(query=query, texts=texts, model=model, top_n=top_n), read)


def top_k_each(
    collection: str,
    queries: Sequence[Query],
    k: int = 10,
    *,
    filter: AnyFilter | None = None,
    with_text: bool = True,
    with_metadata: bool = True,
    with_vector: bool = False,
    **options: Unpack[TopKOptions],
) -> Call[list[list[Hit]]]:
    """Returns the best documents for each of several queries. `ItemsFailed` if a query cannot be answered."""
    request = pb.TopKRequest(
        collection=collection,
        queries=map(to_query, queries),
        k=k,
        filter=to_message(filter),
        with_text=with_text,
        with_metadata=with_metadata,
        with_vector=with_vector,
        vector_format=format_if(with_vector),
        **options,
    )
    return Call("TopK", request, lambda answer: each(answer.results, _hits))


def top_k(
    collection: str,
    query: Query,
    k: int = 10,
    *,
    filter: AnyFilter | None = None,
    with_text: bool = True,
    with_metadata: bool = True,
    with_vector: bool = False,
    **options: Unpack[TopKOptions],
) -> Call[list[Hit]]:
    """Returns the `k` best documents of a collection for a text, a vector, or the document `ById`."""
    call = top_k_each(
        collection,
        [query],
        k,
        filter=filter,
        with_text=with_text,
        with_metadata=with_metadata,
        with_vector=with_vector,
        **options,
    )
    return Call(call.method, call.request, lambda answer: call.read(answer)[0])


def rank(query: Query, candidates: Sequence[str], k: int | None = None) -> Call[list[Hit]]:
    """Returns the candidate texts that are nearest to a query, with their positions; without `k` all of them."""
    k = len(candidates) if k is None else k
    request = pb.TopKRequest(queries=[to_query(query)], candidates=candidates, k=k, with_text=True)
    return Call("TopK", request, lambda answer: _hits(answer.results[0]))


def get_documents(collection: str, ids: Sequence[str], *, with_vector: bool = False) -> Call[list[Document]]:
    """Returns the documents that exist, in the order of `ids`."""
    request = pb.GetDocumentsRequest(
        collection=collection, ids=ids, with_vector=with_vector, vector_format=format_if(with_vector)
    )
    return Call("GetDocuments", request, lambda answer: _documents(answer.documents))


def list_documents(
    collection: str,
    *,
    filter: AnyFilter | None = None,
    page_size: int = 0,
    page_token: str = "",
    with_vector: bool = False,
) -> Call[Page]:
    """Returns a page of a collection's documents, in the order of their ids."""
    request = pb.ListDocumentsRequest(
        collection=collection,
        filter=to_message(filter),
        page_size=page_size,
        page_token=page_token,
        with_vector=with_vector,
        vector_format=format_if(with_vector),
    )
    return Call("ListDocuments", request, lambda answer: Page(_documents(answer.documents), answer.next_page_token))


def delete_documents(collection: str, ids: Sequence[str] = (), *, filter: AnyFilter | None = None) -> Call[Deleted]:
    """Deletes documents by ids or by a filter, all at once."""
    request = pb.DeleteDocumentsRequest(collection=collection, ids=ids, filter=to_message(filter))
    return Call(
        "DeleteDocuments", request, lambda answer: Deleted([*answer.deleted], [*answer.missing], answer.documents)
    )


def update_documents(
    collection: str, patch: Mapping[str, Any], ids: Sequence[str] = (), *, filter: AnyFilter | None = None
) -> Call[pb.UpdateDocumentsResponse]:
    """Changes metadata by a JSON merge patch, of documents by ids or by a filter; None removes a field."""
    request = pb.UpdateDocumentsRequest(
        collection=collection, ids=ids, filter=to_message(filter), patch=to_struct(patch)
    )
    return Call("UpdateDocuments", request, lambda answer: answer)


def count_documents(collection: str, *, filter: AnyFilter | None = None) -> Call[int]:
    """Returns the number of documents, of all or of those that match."""
    request = pb.CountDocumentsRequest(collection=collection, filter=to_message(filter))
    return Call("CountDocuments", request, lambda answer: answer.documents)


def create_collection(
    name: str, *, passages: pb.Passages | None = None, lexical: pb.Lexical | None = None, model: str = ""
) -> Call[pb.Collection]:
    """Creates an empty collection for an embedding model. An upload creates one too, with the defaults."""
    request = pb.CreateCollectionRequest(name=name, passages=passages, lexical=lexical, model=model)
    return Call("CreateCollection", request, lambda answer: answer.collection)


def list_collections(*, page_size: int = 0, page_token: str = "") -> Call[pb.ListCollectionsResponse]:
    """Returns a page of the collections, with their sizes."""
    request = pb.ListCollectionsRequest(page_size=page_size, page_token=page_token)
    return Call("ListCollections", request, lambda answer: answer)


def delete_collection(name: str) -> Call[int]:
    """Deletes a collection, and returns the number of its documents."""
    return Call("DeleteCollection", pb.DeleteCollectionRequest(name=name), lambda answer: answer.documents)


def export(collection: str, filter: AnyFilter | None, with_vector: bool) -> pb.ExportRequest:
    """Makes the request of an export, whose answers each client reads in its own way."""
    return pb.ExportRequest(
        collection=collection,
        filter=to_message(filter),
        with_vector=with_vector,
        vector_format=format_if(with_vector),
    )


def _hits(result: pb.TopKResult) -> list[Hit]:
    return [Hit.of_message(hit) for hit in result.hits]


def _documents(messages: Sequence[pb.Document]) -> list[Document]:
    return [Document.of_message(message) for message in messages]
