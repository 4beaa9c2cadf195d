"""Metadata, vectors, filters, addresses and errors, without a server."""

import pickle
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status

from cognate_client import Document, Field, errors, field, filters, pb
from cognate_client.connection import Tls, target
from cognate_client.metadata import of_struct, to_struct
from cognate_client.vectors import to_array, to_vector


def test_metadata_comes_back_as_it_was() -> None:
    metadata: dict[str, Any] = {
        "none": None,
        "yes": True,
        "int": 2**53,
        "float": 0.5,
        "text": "ä",
        "list": [1, [2]],
        "dict": {"a": {}},
    }
    back = of_struct(to_struct(metadata))
    assert back == metadata
    assert [type(back[key]) for key in ("yes", "int", "float")] == [bool, int, float]
    assert of_struct(to_struct({"a": np.float32(0.5), "b": np.arange(2), "c": (1, 2)})) == {
        "a": 0.5,
        "b": [0, 1],
        "c": [1, 2],
    }


def test_metadata_that_would_change_is_refused() -> None:
    with pytest.raises(ValueError, match="store it as a string"):
        to_struct({"id": 2**53 + 1})
    with pytest.raises(TypeError, match="not of set"):
        to_struct({"tags": {"a"}})


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        (pb.Vector(values=[1, -2]), [1, -2]),
        (pb.Vector(data=np.array([1, -2], "<f4").tobytes(), format=pb.VECTOR_FORMAT_F32_BYTES), [1, -2]),
        (pb.Vector(data=np.array([1, -2], "<f2").tobytes(), format=pb.VECTOR_FORMAT_F16_BYTES), [1, -2]),
        (pb.Vector(data=b"\x02\xfc", scale=0.5, format=pb.VECTOR_FORMAT_INT8), [1, -2]),
        (pb.Vector(data=b"\xa0", dimensions=3, format=pb.VECTOR_FORMAT_BINARY), [1, 0, 1]),
    ],
)
def test_each_format_of_a_vector_is_read(vector: pb.Vector, expected: list[float]) -> None:
    array = to_array(vector)
    assert array.tolist() == expected
    assert array.dtype == np.float32
    array *= 2  # it can be written


def test_a_matrix_is_no_vector() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        to_vector([[1, 2]])  # type: ignore[list-item]


def test_a_document_survives_the_way_to_a_message_and_back() -> None:
    document = Document.of_message(Document("a", "text", {"n": 1}, [1, 0]).to_message())
    assert (document.id, document.text, document.metadata) == ("a", "text", {"n": 1})
    assert document.vector is not None
    assert list(document.vector) == [1, 0]


def test_expressions_become_the_messages_of_the_contract() -> None:
    year = field("year")
    expression = (field("lang") == "en") & (year.between(gte=2020, lt=2024) | ~year.exists()) & (field("a") != None)  # noqa: E711
    assert MessageToDict(expression.message) == {
        "and": {
            "filters": [
                {
                    "and": {
                        "filters": [
                            {"equals": {"path": "lang", "value": "en"}},
                            {
                                "or": {
                                    "filters": [
                                        {"range": {"path": "year", "gte": 2020.0, "lt": 2024.0}},
                                        {"not": {"exists": {"path": "year"}}},
                                    ]
                                }
                            },
                        ]
                    }
                },
                {"not": {"equals": {"path": "a", "value": None}}},
            ]
        }
    }
    bounds = [MessageToDict(each.message)["range"] for each in (year < 1, year <= 1, year > 1, year >= 1)]
    assert bounds == [{"path": "year", name: 1.0} for name in ("lt", "lte", "gt", "gte")]
    assert MessageToDict(field("t").is_in(["a", 1]).message) == {"in": {"path": "t", "values": ["a", 1.0]}}
    assert filters.to_message("a = b") == pb.Filter(text="a = b")


def test_expressions_with_words_of_python_are_refused() -> None:
    year: Field = field("year")
    with pytest.raises(TypeError, match=r"use & \| ~"):
        _ = year > 1 and year < 3
    with pytest.raises(TypeError, match="between"):
        _ = 1 < year < 3


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051"),
        ("http://search.internal:80/", "search.internal:80"),
        ("https://search.example.com", "search.example.com:443"),
        ("https://[2001:db8::1]", "[2001:db8::1]:443"),
        ("unix:/run/cognate.sock", "unix:/run/cognate.sock"),
        ("unix:///run/cognate.sock", "unix:/run/cognate.sock"),
    ],
)
def test_each_form_of_an_address(address: str, expected: str) -> None:
    to = target(address, None, None, 1)
    assert (to.address, to.credentials is not None) == (expected, address.startswith("https"))


@pytest.mark.parametrize(
    ("address", "tls", "key", "reason"),
    [
        ("localhost", None, None, "expected host:port"),
        ("ftp://localhost:1", None, None, "expected https://"),
        ("http://localhost:1", Tls(), None, "settings of TLS"),
        ("unix:/a", Tls(), None, "settings of TLS"),
        ("search.internal:1", None, "cgn_1", "only with TLS"),
        ("http://10.0.0.1:1", None, "cgn_1", "only with TLS"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(address: str, tls: Tls | None, key: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        target(address, tls, key, 1)


def test_errors_can_be_pickled() -> None:
    error = errors.of_status(Status(code=5, message="there is no collection"))
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back)) == (errors.NotFound, "NOT_FOUND: there is no collection")
