"""A client for Cognate, a gRPC server of embeddings and vector search.

`connect` returns the client for threads, `cognate_client.aio.connect` the one for asyncio. The messages and stubs of
the contract are in `cognate_client.v1`.
"""

from cognate_client.client import Client, connect
from cognate_client.connection import Tls
from cognate_client.documents import ById, Classification, Deleted, Document, Hit, Page, Ranked
from cognate_client.errors import CognateError, ItemsFailed, StatusError
from cognate_client.filters import Field, Filter, field
from cognate_client.upload import Progress, Refused, UploadBroken
from cognate_client.v1 import cognate_pb2 as pb

__all__ = [
    "ById",
    "Classification",
    "Client",
    "CognateError",
    "Deleted",
    "Document",
    "Field",
    "Filter",
    "Hit",
    "ItemsFailed",
    "Page",
    "Progress",
    "Ranked",
    "Refused",
    "StatusError",
    "Tls",
    "UploadBroken",
    "connect",
    "field",
    "pb",
]
