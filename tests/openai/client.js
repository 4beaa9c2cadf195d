// OpenAI's own client against this server: `node client.js HOST:PORT`. Exits with 1 at the first fault.

import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `http://${process.argv[2]}/v1`, apiKey: "none" });
const { data: [model] } = await client.models.list();
assert.deepEqual(await client.models.retrieve(model.id), model);

const input = ["a small boat", "a ship", "a tax return"];
const answer = await client.embeddings.create({ model: model.id, input }); // in base64, as the client asks by itself
const [boat, ship, tax] = answer.data.map((item) => item.embedding);
const dot = (a, b) => a.reduce((sum, value, at) => sum + value * b[at], 0);
assert.equal(boat.length, 384);
assert.ok(Math.abs(dot(boat, boat) - 1) < 1e-5);
assert.ok(dot(boat, ship) > dot(boat, tax));
assert.equal(answer.usage.prompt_tokens, answer.usage.total_tokens);

const floats = await client.embeddings.create({ model: model.id, input: input[0], encoding_format: "float" });
assert.deepEqual(floats.data[0].embedding.map(Math.fround), Array.from(boat, Math.fround));
await assert.rejects(client.embeddings.create({ model: "text-embedding-3-small", input: "a" }), OpenAI.NotFoundError);
await assert.rejects(client.embeddings.create({ model: model.id, input: [1, 2] }), /token ids/);
console.log("ok");
