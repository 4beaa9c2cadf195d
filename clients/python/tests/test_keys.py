"""Each call of the contract by callers with keys: the table in docs/security.md is what each role may.

Needs a server with TLS and keys, which the variables KEYS_… describe: see tests/it/conformance.rs.
"""

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from cognate_client import Client, Tls, connect, pb

pytestmark = pytest.mark.skipif("KEYS_ADDR" not in os.environ, reason="KEYS_ADDR names no server with TLS and keys")

SECURITY = Path(__file__).parents[3] / "docs/security.md"
METHODS: dict[str, MethodDescriptor] = {
    method.name: method for method in pb.DESCRIPTOR.services_by_name["Cognate"].methods
}
ROLES = ["read", "write", "admin"]
DENIED, UNKNOWN = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED


def table() -> dict[str, tuple[str, str]]:
    """Returns the least role of each call, and what it reaches."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]+) \|$", SECURITY.read_text(), re.MULTILINE)
    return {name: (role, reaches) for name, role, reaches in rows if role in ROLES}


@pytest.fixture(scope="module")
def callers() -> Iterator[dict[str, Client]]:
    """Returns a client for each key."""
    names = ["READ", "WRITE", "ADMIN", "TEAM", "ROTATED", "REVOKED", "EXPIRED"]
    keys: dict[str, str | None] = {name.lower(): os.environ[f"KEYS_{name}"] for name in names}
    unknown = f"cgn_{'0' * 16}_{'0' * 64}"
    keys["unknown"] = f"{unknown}{zlib.crc32(unknown.encode()):08x}"  # its form is right
    keys |= {"none": None, "short": "cgn_1", "empty": "", "cut off": os.environ["KEYS_READ"][:-1]}
    tls = Tls(ca=os.environ["KEYS_CA"])
    clients = {name: connect(os.environ["KEYS_ADDR"], tls=tls, key=key) for name, key in keys.items()}
    yield clients
    for client in clients.values():
        client.close()


def call(client: Client, method: str, collection: str) -> tuple[grpc.StatusCode, str]:
    """Calls a method with a request that names a collection, and returns its code and message."""
    request: Message = GetMessageClass(METHODS[method].input_type)()
    for field in ("collection", "name"):
        if field in METHODS[method].input_type.fields_by_name:
            setattr(request, field, collection)
    if isinstance(request, pb.TopKRequest):  # one without queries is wrong before its collection is looked at
        request.queries.add(text="x")
        request.k = 1
    # To the protocol, every call is one with streams.
    answers: Any = client.channel.stream_stream(f"/cognate.v1.Cognate/{method}", request_serializer=bytes)(
        iter([request.SerializeToString()]), timeout=60
    )
    try:
        list(answers)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def test_the_table_has_every_call() -> None:
    assert set(table()) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_each_role_may_call_what_the_table_says(callers: dict[str, Client], method: str) -> None:
    needed, _ = table()[method]
    for role in ROLES:
        code, message = call(callers[role], method, "a-roles")
        allowed = ROLES.index(role) >= ROLES.index(needed)
        assert code not in (DENIED, UNKNOWN) if allowed else code is DENIED, (role, code, message)


@pytest.mark.parametrize("method", METHODS)
def test_a_caller_of_some_collections_reaches_no_other_one(callers: dict[str, Client], method: str) -> None:
    _, reaches = table()[method]
    own, _ = call(callers["team"], method, "a-own")
    assert own is DENIED if reaches == "all collections" else own not in (DENIED, UNKNOWN)
    names = {"collection", "name"} & set(METHODS[method].input_type.fields_by_name)
    if reaches == "collection" and names:
        call(callers["admin"], "CreateCollection", "b-there")
        there, missing = (call(callers["team"], method, name) for name in ("b-there", "b-gone"))
        assert there[0] is missing[0] is DENIED
        assert there[1].replace("b-there", "b-gone") == missing[1], "the answer tells which collections exist"


@pytest.mark.parametrize("method", METHODS)
def test_keys_that_are_not_valid_get_one_answer(callers: dict[str, Client], method: str) -> None:
    answers = {
        name: call(callers[name], method, "a-own")
        for name in ("none", "short", "empty", "cut off", "unknown", "expired", "revoked")
    }
    assert {code for code, _ in answers.values()} == {UNKNOWN}, answers
    assert len({message for _, message in answers.values()}) == 1, answers


def test_the_second_key_of_a_name_is_valid_after_the_first_is_revoked(callers: dict[str, Client]) -> None:
    assert callers["rotated"].info().version
    assert call(callers["revoked"], "Info", "")[0] is UNKNOWN
