"""LangChain's `Embeddings` and `VectorStore` on a Cognate server. Needs the extra `langchain`.

The server embeds texts and queries itself. Only if the store is given an embedding model other than
`CognateEmbeddings`, that one computes the vectors. Asynchronous methods run these ones in threads, as LangChain's base
classes do.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

import cognate_client as cognate
from cognate_client import pb
from cognate_client.filters import AnyFilter


class CognateEmbeddings(Embeddings):
    """Vectors of the server's embedding model. `dimensions`: keeps only the first ones (Matryoshka)."""

    def __init__(self, client: cognate.Client, dimensions: int = 0) -> None:
        self.client = client
        self.dimensions = dimensions

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._embed(texts, pb.INPUT_TYPE_DOCUMENT)

    def embed_query(self, text: str) -> list[float]:
        return self._embed([text], pb.INPUT_TYPE_QUERY)[0]

    def _embed(self, texts: list[str], input_type: pb.InputType.ValueType) -> list[list[float]]:
        if not texts:
            return []
        rows: list[list[float]] = self.client.embed(texts, input_type=input_type, dimensions=self.dimensions).tolist()
        return rows


class CognateVectorStore(VectorStore):
    """A collection. Searches take a `filter` (an expression, a text or a message) and the other options of
    `Client.top_k` by name: `mode`, `rerank`, `group_by` and so on. The first documents create the collection."""

    def __init__(self, client: cognate.Client, collection: str, embedding: Embeddings | None = None) -> None:
        self.client = client
        self.collection = collection
        self._embedding = embedding or CognateEmbeddings(client)
        self._server_embeds = isinstance(self._embedding, CognateEmbeddings)

    @property
    def embeddings(self) -> Embeddings:
        return self._embedding

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        client: cognate.Client | None = None,
        collection: str = "langchain",
        **kwargs: Any,
    ) -> CognateVectorStore:
        """Stores texts in `collection` of `client`, which is that of `CognateEmbeddings` unless it is given."""
        if client is None:
            if not isinstance(embedding, CognateEmbeddings):
                raise ValueError("expected the argument client, or CognateEmbeddings, which have one")
            client = embedding.client
        store = cls(client, collection, embedding)
        store.add_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        texts = list(texts)
        for kind, values in (("metadatas", metadatas), ("ids", ids)):
            if values and len(values) != len(texts):
                raise ValueError(f"{len(texts)} texts need as many {kind}, not {len(values)}")
        names = [name or str(uuid.uuid4()) for name in ids or [None] * len(texts)]
        vectors: Iterable[list[float] | None] = itertools.repeat(None)
        if not self._server_embeds:
            vectors = self._embedding.embed_documents(texts)
        parts = zip(names, texts, metadatas or itertools.repeat({}), vectors, strict=False)
        documents = (cognate.Document(*part) for part in parts)
        self.client.upload(self.collection, documents).raise_if_refused()
        return names

    def delete(self, ids: list[str] | None = None, *, filter: AnyFilter | None = None, **kwargs: Any) -> bool | None:
        if ids is None and filter is None:
            raise ValueError("expected ids or filter; Client.delete_collection deletes everything")
        for part in _parts(ids or []):
            self.client.delete_documents(self.collection, part)
        if filter is not None:
            self.client.delete_documents(self.collection, filter=filter)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        found = (self.client.get_documents(self.collection, part) for part in _parts(ids))
        return [_document(each) for each in itertools.chain.from_iterable(found)]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """Returns documents with the server's scores: cosines, unless `mode`, `rerank` or others are given."""
        hits = self.client.top_k(self.collection, self._query(query), k, **kwargs)
        return [(_document(hit), hit.score) for hit in hits]

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        return [_document(hit) for hit in self.client.top_k(self.collection, embedding, k, **kwargs)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Chooses on the server, among the best max(4 * k, 64): `fetch_k` has no effect."""
        hits = self.client.top_k(self.collection, self._query(query), k, diversity=1 - lambda_mult, **kwargs)
        return [_document(hit) for hit in hits]

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Does the same by a vector."""
        return self.similarity_search_by_vector(embedding, k, diversity=1 - lambda_mult, **kwargs)

    def _query(self, text: str) -> str | list[float]:
        return text if self._server_embeds else self._embedding.embed_query(text)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda cosine: min(1.0, max(0.0, cosine))


#: Ids of one call: the default of the server's max_texts.
_IDS_OF_A_CALL = 1024


def _parts(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + _IDS_OF_A_CALL] for start in range(0, len(ids), _IDS_OF_A_CALL))


def _document(found: cognate.Document | cognate.Hit) -> Document:
    return Document(id=found.id, page_content=found.text, metadata=dict(found.metadata))
