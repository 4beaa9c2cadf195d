// The steps in which a call fails, and the client must learn why.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Cognate, Code, ConnectError, connect, ResourceInfoSchema, retryDelayMs } from "../src/index.js";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { byText, collection, text } from "./documents.js";
import { fails, namesField, present } from "./expect.js";
import type { Scenario } from "./main.js";

const similar = { a: ["a cat", "a dog"] };

export async function badRequest({ client }: Scenario): Promise<void> {
  const call = client.topK({ collection, queries: [byText("a cat")], k: 0 });
  namesField(await fails(call, Code.InvalidArgument), "k");
}

export async function resourceInfo({ client }: Scenario): Promise<void> {
  const error = await fails(client.listDocuments({ collection: "nowhere" }), Code.NotFound);
  assert.deepEqual(error.findDetails(ResourceInfoSchema).map((info) => info.resourceName), ["nowhere"]);
}

/** Opens an EmbedStream that has been answered once, and stays open until `end`. */
async function openStream({ client }: Scenario, options: { signal?: AbortSignal } = {}) {
  let end = () => {};
  const ended = new Promise<void>((resolve) => (end = resolve));
  async function* requests() {
    yield { texts: ["a cat"] };
    await ended;
  }
  const answers = client.embedStream(requests(), options)[Symbol.asyncIterator]();
  assert.equal((await answers.next()).done, false);
  return { answers, end };
}

export async function retryInfo(scenario: Scenario): Promise<void> {
  const streams = await Promise.all(Array.from({ length: 32 }, () => openStream(scenario)));
  const error = await fails(scenario.client.similarity(similar), Code.ResourceExhausted);
  assert(present(retryDelayMs(error)) > 0);
  const patient = connect(scenario.address, { retries: 100, timeoutMs: 120_000 });
  const answer = patient.similarity(similar);
  for (const { answers, end } of streams) {
    end();
    assert.equal((await answers.next()).done, true);
  }
  await answer;
  patient.close();
}

export async function deadline({ client }: Scenario): Promise<void> {
  async function* nothing() {
    await new Promise((resolve) => setTimeout(resolve, 10_000).unref());
    yield {};
  }
  const answers = client.embedStream(nothing(), { timeoutMs: 200 })[Symbol.asyncIterator]();
  await fails(answers.next(), Code.DeadlineExceeded);
  const texts = Array.from({ length: 512 }, (_, n) => n + " a long text of many words".repeat(40));
  await fails(client.embed({ texts }, { timeoutMs: 200 }), Code.DeadlineExceeded, Code.ResourceExhausted);
  await client.similarity(similar);
}

export async function cancel(scenario: Scenario): Promise<void> {
  const left = new AbortController();
  const { answers, end } = await openStream(scenario, { signal: left.signal });
  left.abort();
  await fails(answers.next(), Code.Canceled);
  end();

  const leaving = new AbortController();
  try {
    for await (const _ of scenario.client.export({ collection, withVector: true }, { signal: leaving.signal })) {
      leaving.abort(); // what has arrived is still read, and that may be everything
    }
  } catch (error) {
    assert.equal(ConnectError.from(error).code, Code.Canceled);
  }
  await scenario.client.similarity(similar);
}

export async function messageSize({ address, client }: Scenario): Promise<void> {
  const queries = Array.from({ length: 8 }, (_, n) => byText(text(n)));
  const request = { collection, queries, k: 1000, withVector: true };
  const plain = createClient(Cognate, createGrpcTransport({ baseUrl: `http://${address}` }));
  const said = await plain.topK(request).then(({ results }) => `${results.length} results`, String);
  console.log("a client with defaults:", said);
  const { results } = await client.topK(request);
  assert.deepEqual(results.map(({ hits }) => hits.length), Array(8).fill(898));
}

export async function tlsKey(): Promise<void> {
  const as = (authority: string, key?: string) =>
    connect(present(process.env.SCENARIO_TLS), {
      tls: { ca: readFileSync(present(process.env[authority])) },
      timeoutMs: 120_000,
      ...(key && { key: present(process.env[key]) }),
    });
  await as("SCENARIO_CA", "SCENARIO_WRITER_KEY").info({});
  await fails(as("SCENARIO_CA").info({}), Code.Unauthenticated);
  const reader = as("SCENARIO_CA", "SCENARIO_READER_KEY");
  await fails(reader.createCollection({ name: collection }), Code.PermissionDenied);
  const error = await fails(as("SCENARIO_OTHER_CA", "SCENARIO_WRITER_KEY").info({}), Code.Unavailable, Code.Internal);
  assert.match(error.message, /certificate/);
}
