// The help beside the generated code, against a real server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, connect, ConnectError, failure, filter, fromFloat32, toFloat32, upload } from "../src/index.js";
import { BadRequestSchema, type UploadResponse, VectorFormat } from "../src/index.js";
import { address, withClient } from "./server.js";

const texts = (n: number) => Array.from({ length: n }, (_, i) => ({ id: `${i}`, text: `text ${i}`, metadata: { i } }));

test("a vector is the same in every format of numbers", withClient(async (client) => {
  const read = async (format: VectorFormat) => {
    const result = (await client.embed({ texts: ["a small boat"], format })).results[0]?.result;
    assert(result?.case === "vector");
    return toFloat32(result.value);
  };
  const floats = await read(VectorFormat.F32);
  assert.equal(floats.length, 384);
  assert.deepEqual(await read(VectorFormat.F32_BYTES), floats);
  for (const [format, tolerance] of [[VectorFormat.F16_BYTES, 2e-4], [VectorFormat.INT8, 2e-3]] as const) {
    (await read(format)).forEach((value, i) => assert(Math.abs(value - floats[i]!) < tolerance));
  }
  await assert.rejects(read(VectorFormat.BINARY), /format 5/);
}));

test("documents and hits have their vectors in the format that is asked for", withClient(async (client) => {
  const vector = fromFloat32(Float32Array.from({ length: 384 }, (_, i) => i - 200));
  for await (const _ of upload(client, "node-vectors", [{ id: "a", vector }]));
  const found = async (vectorFormat: VectorFormat) => {
    const wanted = { collection: "node-vectors", withVector: true, vectorFormat };
    const { results } = await client.topK({ ...wanted, queries: [{ query: { case: "vector", value: vector } }], k: 1 });
    const { documents } = await client.getDocuments({ ...wanted, ids: ["a"] });
    const vectors = [results[0]?.hits[0]?.vector, documents[0]?.vector];
    return vectors.map((vector) => [vector?.format, toFloat32(vector!)] as const);
  };
  const [[, floats]] = (await found(VectorFormat.F32)) as [[VectorFormat, Float32Array]];
  assert.equal(floats.length, 384);
  for (const [format, values] of await found(VectorFormat.F32_BYTES)) {
    assert.equal(format, VectorFormat.F32_BYTES);
    assert.deepEqual(values, floats);
  }
}));

test("halves are read as IEEE 754 says", () => {
  const halves = [0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000];
  const data = new Uint8Array(Uint16Array.from(halves).buffer);
  const vector = { ...fromFloat32([]), data, format: VectorFormat.F16_BYTES };
  assert.deepEqual([...toFloat32(vector)], [1, -2, 2 ** -24, 65504, -0]);
});

test("an asynchronous source is uploaded, and its wrong documents are reported", withClient(async (client) => {
  async function* source() {
    yield* texts(600);
    yield { id: "", text: "without an id" };
  }
  const all: UploadResponse[] = [];
  for await (const progress of upload(client, "node-upload", source())) all.push(progress);
  const last = all.at(-1);
  assert.deepEqual([last?.received, last?.committed, last?.done], [601n, 600n, true]);
  const errors = all.flatMap((progress) => progress.errors);
  assert.deepEqual(errors.map(({ position }) => position), [600n]);
  assert.equal(failure(errors[0]!.status!).findDetails(BadRequestSchema).length, 1);
  const wanted = { collection: "node-upload", filter: filter.in("i", [7, 599, 600]) };
  assert.equal((await client.countDocuments(wanted)).documents, 2n);
}));

test("an upload that is left is cancelled, and what was committed stays", withClient(async (client) => {
  let closed = false;
  async function* endless() {
    try {
      for (let n = 0; ; n++) yield { id: `${n}`, text: "the same text" };
    } finally {
      closed = true;
    }
  }
  let committed = 0n;
  for await (const progress of upload(client, "node-left", endless())) {
    committed = progress.committed;
    if (committed > 0n) break;
  }
  assert((await client.countDocuments({ collection: "node-left" })).documents >= committed);
  assert(closed, "the source is closed");
}));

test("an upload fails with the error of its source", withClient(async (client) => {
  async function* broken() {
    yield* texts(300);
    throw new Error("the file is damaged");
  }
  const all = async () => {
    for await (const _ of upload(client, "node-broken", broken()));
  };
  await assert.rejects(all, /the file is damaged/);
}));

test("a failed call says by its type which field is wrong", withClient(async (client) => {
  const error = await client.topK({ k: 0 }).catch((reason: unknown) => reason);
  assert(error instanceof ConnectError);
  assert.equal(error.code, Code.InvalidArgument);
  assert(error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations).length > 0);
}));

test("a client's own limit of a message is not taken for a busy server", withClient(async (client) => {
  const began = performance.now();
  await assert.rejects(client.embed({ texts: ["word ".repeat(1000)] }), { code: Code.ResourceExhausted });
  assert(performance.now() - began < 10_000);
}, { maxMessageBytes: 1000 }));

test("an address has a port or TLS, and TLS is never left out silently", () => {
  for (const right of ["localhost:1", "[::1]:1", "http://localhost:1/", "https://localhost"]) connect(right).close();
  for (const wrong of ["localhost", "http://localhost", "unix:/run/x", "ftp://localhost:1", "localhost:1/x"]) {
    assert.throws(() => connect(wrong), /expected HOST:PORT/, wrong);
  }
  assert.throws(() => connect("http://localhost:1", { tls: {} }), /expected https/);
});

test("a key is sent over TLS or inside the machine only, and must be one line", () => {
  connect(address, { key: "cgn_x\n" }).close();
  connect("https://search.example.com", { key: "cgn_x" }).close();
  connect("search.example.com:443", { key: "cgn_x", tls: {} }).close();
  assert.throws(() => connect("search.example.com:80", { key: "cgn_x" }), /without TLS/);
  assert.throws(() => connect(address, { key: "two words" }), /one line/);
});
