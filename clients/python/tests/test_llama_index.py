"""LlamaIndex' own index, retriever and filters on the vector store."""

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import Document, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from cognate_client import Client, errors
from cognate_client.llama_index import CognateEmbedding, CognateVectorStore

TEXTS = {"cat": "a cat that purrs", "dog": "a dog that barks", "puppy": "a puppy that barks", "code": "ORA-00942"}


@pytest.fixture
def store(client: Client, collection: str) -> CognateVectorStore:
    model, store = CognateEmbedding(client), CognateVectorStore(client, collection)
    nodes = []
    for year, (name, text) in enumerate(TEXTS.items(), start=2020):
        source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"source-{name[0]}")}
        metadata = {"year": year, "tags": [name, "all"], "note": None}
        node = TextNode(id_=name, text=text, metadata=metadata, relationships=source)
        node.embedding = model.get_text_embedding(text)
        nodes.append(node)
    assert store.add(nodes) == list(TEXTS)
    return store


def found(store: CognateVectorStore, text: str = "an animal", k: int = 4, **query: object) -> list[str]:
    embedding = CognateEmbedding(store.client).get_query_embedding(text)
    asked = VectorStoreQuery(query_str=text, query_embedding=embedding, similarity_top_k=k, **query)  # type: ignore[arg-type]
    return store.query(asked).ids or []


def test_an_index_finds_a_document_by_its_meaning(client: Client, collection: str) -> None:
    storage = StorageContext.from_defaults(vector_store=CognateVectorStore(client, collection))
    documents = [Document(text=text, metadata={"name": name}) for name, text in TEXTS.items()]
    index = VectorStoreIndex.from_documents(documents, storage_context=storage, embed_model=CognateEmbedding(client))
    (best,) = index.as_retriever(similarity_top_k=1).retrieve("a kitten")
    assert (best.node.get_content(), best.node.metadata) == (TEXTS["cat"], {"name": "cat"})
    index.delete_ref_doc(documents[0].doc_id)
    (best,) = index.as_retriever(similarity_top_k=1).retrieve("a kitten")
    assert best.node.metadata != {"name": "cat"}


async def test_an_index_works_with_asyncio(client: Client, collection: str) -> None:
    store = CognateVectorStore(client, collection)
    index = VectorStoreIndex.from_vector_store(store, embed_model=CognateEmbedding(client))
    await index.ainsert_nodes([TextNode(id_=name, text=text) for name, text in TEXTS.items()])
    (best,) = await index.as_retriever(similarity_top_k=1).aretrieve("a kitten")
    assert best.node.node_id == "cat"


def test_nodes_come_back_as_they_were(store: CognateVectorStore) -> None:
    nodes = {node.node_id: node for node in store.get_nodes()}
    assert {name: node.get_content() for name, node in nodes.items()} == TEXTS
    assert nodes["dog"].metadata == {"year": 2021, "tags": ["dog", "all"], "note": None}
    assert nodes["dog"].ref_doc_id == "source-d"
    assert [node.node_id for node in store.get_nodes(["dog", "nobody"])] == ["dog"]


@pytest.mark.parametrize(
    ("key", "operator", "value", "expected"),
    [
        ("year", FilterOperator.EQ, 2021, {"dog"}),
        ("year", FilterOperator.NE, 2021, {"cat", "puppy", "code"}),
        ("year", FilterOperator.GT, 2021, {"puppy", "code"}),
        ("year", FilterOperator.GTE, 2021, {"dog", "puppy", "code"}),
        ("year", FilterOperator.LT, 2021, {"cat"}),
        ("year", FilterOperator.LTE, 2021, {"cat", "dog"}),
        ("year", FilterOperator.IN, [2020, 2023], {"cat", "code"}),
        ("year", FilterOperator.NIN, [2020, 2023], {"dog", "puppy"}),
        ("tags", FilterOperator.ANY, ["cat", "dog"], {"cat", "dog"}),
        ("tags", FilterOperator.ALL, ["cat", "all"], {"cat"}),
        ("tags", FilterOperator.CONTAINS, "puppy", {"puppy"}),
        ("note", FilterOperator.IS_EMPTY, None, set(TEXTS)),
        ("year", FilterOperator.IS_EMPTY, None, set()),
    ],
)
def test_each_operator_of_filters(
    store: CognateVectorStore, key: str, operator: FilterOperator, value: list[int], expected: set[str]
) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])
    assert set(found(store, filters=filters)) == expected


def test_filters_are_combined(store: CognateVectorStore) -> None:
    cat, dog = MetadataFilter(key="tags", value="cat"), MetadataFilter(key="tags", value="dog")
    either = MetadataFilters(filters=[cat, dog], condition=FilterCondition.OR)
    assert set(found(store, filters=either)) == {"cat", "dog"}
    neither = MetadataFilters(filters=[either], condition=FilterCondition.NOT)
    assert set(found(store, filters=neither)) == {"puppy", "code"}
    assert found(store, filters=neither, doc_ids=["source-p"]) == ["puppy"]
    assert set(found(store, node_ids=["cat", "puppy"])) == {"cat", "puppy"}
    with pytest.raises(ValueError, match="text_match"):
        found(
            store,
            filters=MetadataFilters(filters=[MetadataFilter(key="a", value="b", operator=FilterOperator.TEXT_MATCH)]),
        )


def test_each_mode_of_the_server(store: CognateVectorStore) -> None:
    assert found(store, "what is ORA-00942", k=1, mode=VectorStoreQueryMode.TEXT_SEARCH) == ["code"]
    assert found(store, "a kitten 00942", k=1, mode=VectorStoreQueryMode.HYBRID, alpha=0.1) == ["code"]
    assert found(store, "a kitten 00942", k=1, mode=VectorStoreQueryMode.HYBRID, alpha=1) == ["cat"]
    differ = found(store, "a dog that barks", k=2, mode=VectorStoreQueryMode.MMR, mmr_threshold=0.1)
    assert differ[0] == "dog"
    assert differ[1] != "puppy"
    with pytest.raises(ValueError, match="svm"):
        found(store, mode=VectorStoreQueryMode.SVM)


def test_nodes_are_deleted_by_source_by_id_and_all(client: Client, store: CognateVectorStore) -> None:
    store.delete("source-c")
    assert set(found(store)) == {"dog", "puppy"}
    store.delete_nodes(["dog"])
    assert found(store) == ["puppy"]
    store.clear()
    with pytest.raises(errors.NotFound):
        found(store)
