// An upload of any number of documents, in messages of a size that suits the server.

import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { CallOptions, Client } from "@connectrpc/connect";
import { type Cognate, DocumentSchema, type UploadResponse } from "./gen/cognate/v1/cognate_pb.js";

/** A document to upload: `{ id, text, metadata }`, where metadata is a plain object. */
export type NewDocument = MessageInitShape<typeof DocumentSchema>;

/** Documents in a message at most: a few batches of the server. */
const MAX_DOCUMENTS = 256;
/** Bytes in a message, unless a single document is larger. */
const TARGET_BYTES = 1 << 20;

/**
 * Uploads documents and yields the server's progress. They are read no faster than the server stores them. The last
 * progress has `done`, and each has the `errors` since the one before. To leave early, leave the loop: what is
 * committed stays.
 */
export async function* upload(
  client: Pick<Client<typeof Cognate>, "upload">,
  collection: string,
  documents: AsyncIterable<NewDocument> | Iterable<NewDocument>,
  options: CallOptions = {},
): AsyncGenerator<UploadResponse, void> {
  const left = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, left.signal]) : left.signal;
  const answers = client.upload(messages(collection, documents), { ...options, signal })[Symbol.asyncIterator]();
  try {
    for (let next = await answers.next(); !next.done; next = await answers.next()) yield next.value;
  } finally {
    left.abort();
    await answers.next().catch(() => {}); // a call ends, and its deadline's timer with it, when its end is read
  }
}

async function* messages(collection: string, documents: AsyncIterable<NewDocument> | Iterable<NewDocument>) {
  let [batch, bytes] = [[] as NewDocument[], 0];
  for await (const document of documents) {
    const size = toBinary(DocumentSchema, create(DocumentSchema, document)).length;
    if (batch.length === MAX_DOCUMENTS || (batch.length > 0 && bytes + size > TARGET_BYTES)) {
      yield { collection, documents: batch };
      [batch, bytes] = [[], 0];
    }
    batch.push(document);
    bytes += size;
  }
  yield { collection, documents: batch };
}
