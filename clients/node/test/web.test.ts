// The protocols of browsers, by Connect's own clients: gRPC-web, and Connect with JSON. Node.js has the same fetch.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { BadRequestSchema, Code, Cognate, ConnectError, connect, filter } from "../src/index.js";
import { toFloat32, upload, VectorFormat } from "../src/index.js";
import { connectWeb } from "../src/web.js";
import { address } from "./server.js";

const baseUrl = `http://${address}`;
const clients: Record<string, Client<typeof Cognate>> = {
  "gRPC-web over fetch": connectWeb(baseUrl),
  "Connect's JSON over fetch": connectWeb(baseUrl, { protocol: "connect" }),
  "gRPC-web over HTTP/2": createClient(Cognate, createGrpcWebTransport({ baseUrl, httpVersion: "2" })),
  "Connect's JSON over HTTP/2": createClient(
    Cognate,
    createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: false }),
  ),
};
const collection = "node-web";

test.before(async () => {
  const client = connect(address);
  const metadata = (n: number) => ({ n, "ü": [null, "😀"] });
  const documents = Array.from({ length: 300 }, (_, n) => ({ id: `d${n}`, text: `note ${n}`, metadata: metadata(n) }));
  for await (const _ of upload(client, collection, documents));
  client.close();
});

for (const [name, client] of Object.entries(clients)) {
  test(`${name}: calls are answered as over gRPC`, async () => {
    const direct = connect(address);
    const { model, limits } = await client.info({});
    assert.equal(model?.dimensions, 384);
    assert.equal(limits?.maxMessageBytes, 16_777_216n);
    for (const format of [VectorFormat.F32, VectorFormat.F32_BYTES]) {
      const request = { texts: ["a small boat", "", "ein Böötchen"], format };
      const [answer, expected] = await Promise.all([client.embed(request), direct.embed(request)]);
      answer.results.forEach(({ result }, i) => {
        const other = expected.results[i]?.result;
        assert(result.case === "vector" && other?.case === "vector");
        assert.deepEqual(toFloat32(result.value), toFloat32(other.value));
      });
    }
    const request = {
      collection,
      queries: [{ query: { case: "id" as const, value: "d7" } }],
      k: 5,
      filter: filter.any(filter.range("n", { lt: 100 }), filter.not(filter.exists("n"))),
      withMetadata: true,
    };
    const [answer, expected] = await Promise.all([client.topK(request), direct.topK(request)]);
    assert.equal(answer.results[0]?.hits[0]?.id, "d7");
    // JSON has the shortest digits of a float, which Connect reads as a double.
    for (const hit of answer.results[0].hits) hit.score = Math.fround(hit.score);
    assert.deepEqual(answer, expected);
    direct.close();
  });

  test(`${name}: a stream of answers arrives, and can be left`, async () => {
    let documents = 0;
    for await (const part of client.export({ collection })) {
      assert.equal(part.total, 300n);
      documents += part.documents.length;
    }
    assert.equal(documents, 300);
    const left = new AbortController();
    left.abort();
    const call = client.export({ collection }, { signal: left.signal })[Symbol.asyncIterator]().next();
    await assert.rejects(call, { code: Code.Canceled });
  });

  test(`${name}: failures have the codes and details of gRPC`, async () => {
    const query = [{ query: { case: "text" as const, value: "a note" } }];
    const error = await client.topK({ collection, queries: query, k: 0 }).catch(ConnectError.from);
    assert(error instanceof ConnectError);
    assert.equal(error.code, Code.InvalidArgument);
    const fields = error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations);
    assert.deepEqual(fields.map(({ field }) => field), ["k"]);
    await assert.rejects(client.listDocuments({ collection: "nowhere" }), { code: Code.NotFound });
    const export_ = client.export({ collection: "nowhere" })[Symbol.asyncIterator]().next();
    await assert.rejects(export_, { code: Code.NotFound });
    const texts = Array.from({ length: 512 }, (_, n) => n + " a long text of many words".repeat(40));
    const late = await client.embed({ texts }, { timeoutMs: 100 }).catch(ConnectError.from);
    assert(late instanceof ConnectError && [Code.DeadlineExceeded, Code.ResourceExhausted].includes(late.code));
  });
}
