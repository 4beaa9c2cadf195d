"""LlamaIndex's `BaseEmbedding` and a vector store on a Cognate server. Needs the extra `llama-index`.

A node is a document: its text, its metadata, and in `_node_content` what LlamaIndex needs to make it again. Together
they must stay below max_metadata_bytes of the server, 64 KiB. Asynchronous methods run these ones in threads.
"""

from __future__ import annotations

import asyncio
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

import cognate_client as cognate
from cognate_client import Field, Filter, documents, field, pb

#: The metadata field with the id of a node: the server's filters do not reach ids of documents.
_NODE_ID = "node_id"


class CognateEmbedding(BaseEmbedding):
    """Vectors of the server's embedding model."""

    _client: cognate.Client = PrivateAttr()

    def __init__(self, client: cognate.Client, **settings: Any) -> None:
        super().__init__(**{"model_name": "cognate", "embed_batch_size": 256, **settings})
        self._client = client

    @classmethod
    def class_name(cls) -> str:
        return "CognateEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed([query], pb.INPUT_TYPE_QUERY)[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed([text], pb.INPUT_TYPE_DOCUMENT)[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embed(texts, pb.INPUT_TYPE_DOCUMENT)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    def _embed(self, texts: list[str], input_type: pb.InputType.ValueType) -> list[list[float]]:
        rows: list[list[float]] = self._client.embed(texts, input_type=input_type).tolist()
        return rows


class CognateVectorStore(BasePydanticVectorStore):
    """A collection. The first nodes create it."""

    stores_text: bool = True
    collection: str
    _client: cognate.Client = PrivateAttr()

    def __init__(self, client: cognate.Client, collection: str) -> None:
        super().__init__(stores_text=True, collection=collection)  # type: ignore[call-arg]
        self._client = client

    @classmethod
    def class_name(cls) -> str:
        return "CognateVectorStore"

    @property
    def client(self) -> cognate.Client:
        return self._client

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        nodes_as_documents = (
            cognate.Document(
                id=node.node_id,
                text=node.get_content(metadata_mode=MetadataMode.NONE),
                metadata={**node_to_metadata_dict(node, remove_text=True), _NODE_ID: node.node_id},
                vector=node.get_embedding(),
            )
            for node in nodes
        )
        self._client.upload(self.collection, nodes_as_documents).raise_if_refused()
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        found = self._client.export(self.collection, filter=_all([_of_ids(node_ids), to_filter(filters)]))
        return [metadata_dict_to_node(dict(each.metadata), text=each.text) for each in found]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        self._client.delete_documents(self.collection, filter=field("ref_doc_id") == ref_doc_id)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        await asyncio.to_thread(self.delete, ref_doc_id)

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        chosen = _all([_of_ids(node_ids), to_filter(filters)])
        if chosen is None:
            raise ValueError("expected node_ids or filters; clear() deletes everything")
        self._client.delete_documents(self.collection, filter=chosen)

    def clear(self) -> None:
        self._client.delete_collection(self.collection)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Takes the options of `Client.top_k` by name, and those of LlamaIndex' modes."""
        of_documents = field("doc_id").is_in(query.doc_ids) if query.doc_ids else None
        chosen = _all([to_filter(query.filters), of_documents, _of_ids(query.node_ids)])
        question, k, options = _search(query)
        hits = self._client.top_k(self.collection, question, k, filter=chosen, **{**options, **kwargs})
        return VectorStoreQueryResult(
            nodes=[metadata_dict_to_node(hit.metadata, text=hit.text) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[hit.id for hit in hits],
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        return await asyncio.to_thread(self.query, query, **kwargs)


def _search(query: VectorStoreQuery) -> tuple[pb.Query, int, dict[str, Any]]:
    """Returns the query, k and the options of a mode."""
    text, k = query.query_str or "", query.similarity_top_k
    by_text = pb.Query(text=text)
    by_vector = by_text
    if query.query_embedding is not None:  # else the server embeds the text
        by_vector = documents.to_query(query.query_embedding)
    match query.mode:
        case VectorStoreQueryMode.DEFAULT:
            return by_vector, k, {}
        case VectorStoreQueryMode.MMR:
            relevance = 0.5 if query.mmr_threshold is None else query.mmr_threshold
            return by_vector, k, {"diversity": 1 - relevance}
        case VectorStoreQueryMode.SPARSE | VectorStoreQueryMode.TEXT_SEARCH:
            return by_text, query.sparse_top_k or k, {"mode": pb.SEARCH_MODE_LEXICAL}
        case VectorStoreQueryMode.HYBRID | VectorStoreQueryMode.SEMANTIC_HYBRID:
            by_vector.lexical_text = text
            options: dict[str, Any] = {"mode": pb.SEARCH_MODE_HYBRID}
            if query.alpha is not None:  # 0: words alone, 1: vectors alone; the server's greatest weight is 100
                options["lexical_weight"] = min(100.0, (1 - query.alpha) / max(query.alpha, 1e-9))
            return by_vector, query.hybrid_top_k or k, options
    raise ValueError(f"the mode {query.mode.value} is none of the server's")


def to_filter(filters: MetadataFilters | MetadataFilter | None) -> Filter | None:
    """Makes LlamaIndex' filters those of the server. A condition on a list holds if it holds for one element."""
    if filters is None:
        return None
    if isinstance(filters, MetadataFilter):
        return _condition(filters)
    parts = [to_filter(each) for each in filters.filters]
    if filters.condition == FilterCondition.OR:
        chosen = [part for part in parts if part is not None]
        return functools.reduce(operator.or_, chosen) if chosen else None
    every = _all(parts)
    return ~every if every is not None and filters.condition == FilterCondition.NOT else every


def _condition(filter: MetadataFilter) -> Filter:
    if filter.operator not in _OPERATORS:
        raise ValueError(f"the operator {filter.operator.value} is none of the server's")
    return _OPERATORS[filter.operator](field(filter.key), filter.value)


_OPERATORS: dict[FilterOperator, Callable[[Field, Any], Filter]] = {
    FilterOperator.EQ: operator.eq,
    FilterOperator.CONTAINS: operator.eq,
    FilterOperator.NE: operator.ne,
    FilterOperator.GT: operator.gt,
    FilterOperator.GTE: operator.ge,
    FilterOperator.LT: operator.lt,
    FilterOperator.LTE: operator.le,
    FilterOperator.IN: Field.is_in,
    FilterOperator.ANY: Field.is_in,
    FilterOperator.NIN: lambda here, values: ~here.is_in(values),
    FilterOperator.ALL: lambda here, values: functools.reduce(operator.and_, [here == each for each in values]),
    FilterOperator.IS_EMPTY: lambda here, _: ~here.exists() | (here == None),  # noqa: E711
}


def _of_ids(node_ids: list[str] | None) -> Filter | None:
    return field(_NODE_ID).is_in(node_ids) if node_ids else None


def _all(parts: Sequence[Filter | None]) -> Filter | None:
    chosen = [part for part in parts if part is not None]
    return functools.reduce(operator.and_, chosen) if chosen else None
