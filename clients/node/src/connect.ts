// A connection over gRPC, in Node.js. Browsers have web.ts.

import type { SecureClientSessionOptions } from "node:http2";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Cognate } from "./gen/cognate/v1/cognate_pb.js";
import { interceptors } from "./interceptors.js";

/** What a connection of any kind takes. */
export interface CommonOptions {
  /** An API key. It is sent over TLS or inside this machine only. */
  key?: string;
  /** Milliseconds that a call may take, if it has no `timeoutMs` of its own. Default: no limit. */
  timeoutMs?: number;
  /** How often a unary call is repeated when its error says when to try again. Default 4. */
  retries?: number;
}

/** What a connection over gRPC takes. */
export interface ConnectOptions extends CommonOptions {
  /** Settings of TLS, in PEM: `ca` (default: Node's authorities), and `cert` and `key` of a client certificate. */
  tls?: SecureClientSessionOptions;
  /** Bytes of a message in either direction at most. Default 16 MiB, the server's own default (see `Info`). */
  maxMessageBytes?: number;
}

/** A client: one method for each call. */
export interface CognateClient extends Client<typeof Cognate> {
  /** Ends the connection and all calls. A connection without calls keeps no process alive. */
  close(): void;
}

/** Connects to `HOST:PORT`, `http://HOST:PORT` or `https://HOST[:PORT]` when the first call needs it. */
export function connect(address: string, options: ConnectOptions = {}): CognateClient {
  const url = parse(address, options.tls !== undefined);
  // A connection that has died without a word is noticed after a minute.
  const sessionManager = new Http2SessionManager(url, { pingIntervalMs: 60_000 }, options.tls);
  const transport = createGrpcTransport({
    baseUrl: url.href,
    sessionManager,
    interceptors: interceptors(url, options),
    readMaxBytes: options.maxMessageBytes ?? 16 << 20,
    writeMaxBytes: options.maxMessageBytes ?? 16 << 20,
    ...(options.timeoutMs !== undefined && { defaultTimeoutMs: options.timeoutMs }),
  });
  return Object.assign(createClient(Cognate, transport), { close: () => sessionManager.abort() });
}

function parse(address: string, tls: boolean): URL {
  const [, scheme = tls ? "https" : "http", host] = /^(?:(https?):\/\/)?([^/]+)\/?$/.exec(address) ?? [];
  if (host === undefined || (scheme === "http" && (tls || !/:\d+$/.test(host)))) {
    const expected = tls ? "https://HOST or HOST:PORT with the options of TLS" : "HOST:PORT or https://HOST";
    throw new TypeError(`expected ${expected}, found ${address}`);
  }
  return new URL(`${scheme}://${host}`);
}
