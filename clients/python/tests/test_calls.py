"""Which calls of the contract have a method."""

from cognate_client import Client, aio, calls, pb

#: Calls that programs make through `Client.stub`, because a method would add nothing.
BY_STUB = {"Backup", "ClassifyStream", "Facets", "MigrateCollection", "Tokenize", "TokenizeStream"}
#: Methods that are written by hand, and the call that `embed` makes for many texts.
BY_HAND = {"Upload": "upload", "Export": "export", "EmbedStream": "embed"}


def method(rpc: str) -> str:
    return BY_HAND.get(rpc) or "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in rpc)[1:]


def test_each_call_has_a_method_in_both_clients_or_is_named_here() -> None:
    rpcs = {rpc.name for rpc in pb.DESCRIPTOR.services_by_name["Cognate"].methods}
    assert rpcs >= BY_STUB
    for rpc in rpcs - BY_STUB:
        assert hasattr(Client, method(rpc)), rpc
        assert hasattr(aio.AsyncClient, method(rpc)), rpc
        assert rpc in BY_HAND or hasattr(calls, method(rpc)), rpc
