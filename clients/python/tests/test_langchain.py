"""LangChain's own standard tests, and what they do not ask for."""

from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, VectorStoreIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from cognate_client import Client, ItemsFailed, field, pb
from cognate_client.langchain import CognateEmbeddings, CognateVectorStore


class OfTheServer:
    """The parameters of both kinds of standard tests."""

    @pytest.fixture(autouse=True)
    def connected(self, client: Client) -> None:
        self.client = client

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return CognateEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, object]:
        return {"client": self.client}


class TestEmbeddings(OfTheServer, EmbeddingsUnitTests):
    pass


class TestEmbeddingsOfAServer(OfTheServer, EmbeddingsIntegrationTests):
    pass


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, client: Client, collection: str) -> VectorStore:
        client.create_collection(collection)
        return CognateVectorStore(client, collection)


class TestVectorStoreWithAnotherModel(VectorStoreIntegrationTests):
    """The vectors come from LangChain; only their length is that of the server's model."""

    @pytest.fixture
    def vectorstore(self, client: Client, collection: str) -> VectorStore:
        client.create_collection(collection)
        size = client.info().model.dimensions
        return CognateVectorStore(client, collection, DeterministicFakeEmbedding(size=size))


@pytest.fixture
def store(client: Client, collection: str) -> CognateVectorStore:
    texts = ["a cat that purrs", "a dog that barks", "a puppy that barks", "error ORA-00942"]
    metadatas: list[dict[str, Any]] = [{"legs": 4, "tags": ["pet"]}, {"legs": 4}, {"legs": 4}, {"code": True}]
    embeddings = CognateEmbeddings(client)
    ids = ["cat", "dog", "puppy", "error"]
    return CognateVectorStore.from_texts(texts, embeddings, metadatas, ids=ids, collection=collection)


def test_searches_take_filters_and_modes(store: CognateVectorStore) -> None:
    assert [found.id for found in store.similarity_search("an animal", filter=field("tags") == "pet")] == ["cat"]
    assert [found.id for found in store.similarity_search("00942", k=1, mode=pb.SEARCH_MODE_LEXICAL)] == ["error"]
    retriever = store.as_retriever(search_kwargs={"k": 2, "filter": "legs = 4 and not tags = pet"})
    found = retriever.invoke("a barking dog")
    assert [(document.id, document.metadata) for document in found] == [("dog", {"legs": 4}), ("puppy", {"legs": 4})]
    store.delete(filter="legs exists")
    assert [found.id for found in store.similarity_search("an animal")] == ["error"]


def test_relevance_is_the_cosine(store: CognateVectorStore) -> None:
    (best, score), *_, (_, worst) = store.similarity_search_with_relevance_scores("a cat that purrs")
    assert (best.id, round(score, 4)) == ("cat", 1)
    assert 0 <= worst < 0.3


def test_hits_of_marginal_relevance_differ(store: CognateVectorStore) -> None:
    near = store.max_marginal_relevance_search("a dog that barks", k=2, lambda_mult=1)
    far = store.max_marginal_relevance_search("a dog that barks", k=2, lambda_mult=0.1)
    assert [found.id for found in near] == ["dog", "puppy"]
    assert far[0].id == "dog"
    assert far[1].id != "puppy"


def test_a_document_that_the_server_refuses_is_an_error(store: CognateVectorStore) -> None:
    with pytest.raises(ItemsFailed, match="the first at position 1"):
        store.add_documents([Document("good"), Document("bad", metadata={"big": "x" * 70_000})])


def test_two_thousand_texts_are_embedded_and_stored(client: Client, store: CognateVectorStore) -> None:
    texts = [f"number {n}" for n in range(2000)]
    ids = store.add_texts(texts)
    assert len(store.get_by_ids(ids)) == 2000
    assert len(store.embeddings.embed_documents(texts)) == 2000
    assert store.delete(ids)
    assert client.count_documents(store.collection) == 4
