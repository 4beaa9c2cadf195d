// Failures as one type, with details that can be asked for: `error.findDetails(BadRequestSchema)`.

import { Code, ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";

/** Makes an error of the status of an item: a text, a query or a document. */
export function failure(status: Status): ConnectError {
  const error = new ConnectError(status.message, status.code as Code);
  error.details = status.details.map(({ typeUrl, value }) => ({ type: typeUrl.replace(/^.*\//, ""), value }));
  return error;
}

/**
 * Returns the milliseconds after which the server wants the call again. Without them, do not repeat it: a quota or the
 * client's own limit of a message has the code RESOURCE_EXHAUSTED too.
 */
export function retryDelayMs(error: unknown): number | undefined {
  const delay = ConnectError.from(error).findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6;
}
