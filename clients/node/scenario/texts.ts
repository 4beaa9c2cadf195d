// The steps about texts and vectors.

import assert from "node:assert/strict";
import { Code, failure, toFloat32, Truncation, type Vector, VectorFormat } from "../src/index.js";
import { cosine, namesField, present } from "./expect.js";
import type { Scenario } from "./main.js";

export async function info({ client }: Scenario): Promise<void> {
  const { version, model, limits } = await client.info({});
  assert.match(version, /^\d+\.\d+\.\d+$/);
  assert.equal(model?.dimensions, 384);
  assert.equal(limits?.maxMessageBytes, 16_777_216n);
}

export async function embed({ client }: Scenario): Promise<void> {
  const texts = ["a cat", "word ".repeat(2000), "a dog"];
  const { results } = await client.embed({ texts, truncation: Truncation.REJECT });
  assert.deepEqual(results.map(({ result }) => result.case), ["vector", "error", "vector"]);
  for (const { result } of results) {
    if (result.case === "vector") assert.equal(result.value.values.length, 384);
    if (result.case === "error") {
      assert.equal(result.value.code, Code.InvalidArgument);
      namesField(failure(result.value), "texts[1]");
    }
  }
}

export async function embedInt8(scenario: Scenario): Promise<void> {
  const vector = await embedded(scenario, VectorFormat.INT8);
  assert.equal(vector.data.length, 384);
  const floats = await embedded(scenario, VectorFormat.F32);
  assert(cosine(toFloat32(vector), toFloat32(floats)) > 0.99);
}

async function embedded({ client }: Scenario, format: VectorFormat): Promise<Vector> {
  const { results } = await client.embed({ texts: ["text 0"], format });
  const result = present(results[0]).result;
  assert(result.case === "vector");
  return result.value;
}

export async function embedStream(scenario: Scenario): Promise<void> {
  async function* requests() {
    for (let n = 0; n < 10; n++) yield { texts: [`text ${n}`], dimensions: n === 4 ? 385 : 0 };
  }
  const first = toFloat32(await embedded(scenario, VectorFormat.F32));
  let n = 0;
  for await (const { results } of scenario.client.embedStream(requests())) {
    assert.equal(results.length, 1);
    const { result } = present(results[0]);
    if (result.case === "vector") assert.equal(cosine(toFloat32(result.value), first) > 0.9999, n === 0, `answer ${n}`);
    else namesField(failure(present(result.value)), "dimensions");
    assert.equal(result.case === "error", n === 4);
    n += 1;
  }
  assert.equal(n, 10);
}

export async function similarity({ client }: Scenario): Promise<void> {
  const { rows } = await client.similarity({ a: ["a cat", "a train"], b: ["a kitten", "a railway"] });
  assert.equal(rows.length, 2);
  rows.forEach(({ scores }, i) => assert(present(scores[i]) > present(scores[1 - i])));
}

export async function candidates({ client, found }: Scenario): Promise<void> {
  const { results } = await client.topK({
    queries: [{ query: { case: "text", value: "a vehicle on rails" } }],
    candidates: ["a train", "a loaf of bread", "a cat"],
    k: 3,
  });
  const { hits } = present(results[0]);
  assert.equal(hits[0]?.candidate, 0);
  assert.deepEqual(hits.map((hit) => hit.candidate).sort(), [0, 1, 2]);
  assert.equal(present(found).candidate, undefined);
}
