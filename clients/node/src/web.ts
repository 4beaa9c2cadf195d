// A connection from browsers, over fetch, which does not send and receive at the same time: `Upload` and calls
// whose names end in `Stream` fail.

import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import type { CommonOptions } from "./connect.js";
import { Cognate } from "./gen/cognate/v1/cognate_pb.js";
import { interceptors } from "./interceptors.js";

/** What a connection over fetch takes. */
export interface WebOptions extends CommonOptions {
  /** `grpc-web` (default), or `connect` with JSON, which the browser's tools show as text. */
  protocol?: "grpc-web" | "connect";
}

/** Connects to `http://HOST:PORT` or `https://HOST[:PORT]`. */
export function connectWeb(baseUrl: string, options: WebOptions = {}): Client<typeof Cognate> {
  const create = options.protocol === "connect" ? createConnectTransport : createGrpcWebTransport;
  const common = { baseUrl, interceptors: interceptors(new URL(baseUrl), options) };
  const limit = options.timeoutMs !== undefined && { defaultTimeoutMs: options.timeoutMs };
  return createClient(Cognate, create({ ...common, ...limit }));
}

export * from "./messages.js";
