"""How both clients reach a server: the forms of an address, TLS, the key, and the settings of the channel."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

import grpc

#: A file in PEM, or its content.
Pem = str | os.PathLike[str] | bytes

#: The server keeps to its own max_message_bytes, which a client does not know before its first call. This limit only
#: bounds what a hostile server can make the client hold.
MAX_ANSWER_BYTES = 1 << 30


@dataclass(frozen=True)
class Tls:
    """The settings of TLS. Files are read when the client connects."""

    #: The authorities to trust; None: those that grpcio brings along.
    ca: Pem | None = None
    #: The client's certificate and its key, if the server asks for one.
    cert: Pem | None = None
    key: Pem | None = None
    #: The name that the server's certificate must have, if the address has another.
    name: str | None = None


@dataclass(frozen=True)
class Target:
    """What a channel is made of; without credentials it is an insecure one."""

    address: str
    credentials: grpc.ChannelCredentials | None
    options: list[tuple[str, str | int]]


def target(address: str, tls: Tls | None, key: str | None, max_answer_bytes: int) -> Target:
    """Reads `host:port`, `http://host:port`, `https://host[:port]` or `unix:path`."""
    scheme, _, rest = address.rpartition("://")
    if scheme not in ("", "http", "https", "unix"):
        raise ValueError(f"{address}: expected https://, http://, unix: or no scheme")
    if scheme == "unix" or address.startswith("unix:"):
        rest, local, kind = "unix:" + address.removeprefix("unix:").removeprefix("//"), True, _UDS
    else:
        rest = rest.rstrip("/")
        host, colon, port = rest.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = rest, "443" if scheme == "https" else ""
        if not port.isdecimal():
            raise ValueError(f"{address}: expected host:port, for example 127.0.0.1:50051")
        rest, local, kind = f"{host}:{port}", _is_local(host.strip("[]")), _TCP
    if tls is not None and (scheme == "http" or kind is _UDS):
        raise ValueError(f"{address}: settings of TLS are given, expected https:// or no scheme")
    credentials: grpc.ChannelCredentials | None = None
    if tls is not None or scheme == "https":
        tls = tls or Tls()
        credentials = grpc.ssl_channel_credentials(_pem(tls.ca), _pem(tls.key), _pem(tls.cert))
    elif key is not None:
        if not local:
            raise ValueError(f"{address}: a key crosses a network only with TLS: expected https:// or tls=")
        credentials = grpc.local_channel_credentials(kind)
    if key is not None and credentials is not None:
        token = grpc.access_token_call_credentials(key.strip())
        credentials = grpc.composite_channel_credentials(credentials, token)
    return Target(rest, credentials, _options(tls, max_answer_bytes))


_UDS, _TCP = grpc.LocalConnectionType.UDS, grpc.LocalConnectionType.LOCAL_TCP


def _options(tls: Tls | None, max_answer_bytes: int) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", max_answer_bytes),
        ("grpc.max_send_message_length", -1),  # the server says its limit, by name
        # A server that is gone is noticed within 50 s of silence, also while a stream waits. The server closes a
        # connection that is idle for long, and bounds pings to 100 a second.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    if tls is not None and tls.name is not None:
        options.append(("grpc.ssl_target_name_override", tls.name))
    return options


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _pem(pem: Pem | None) -> bytes | None:
    return pem if pem is None or isinstance(pem, bytes) else Path(pem).read_bytes()
