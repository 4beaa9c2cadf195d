// The steps that store documents, search them, read them and delete them.

import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import {
  failure, type Filter, filter, fromFloat32, type Hit, type Query, QuerySchema, toFloat32, type UploadError,
} from "../src/index.js";
import { namesField, present } from "./expect.js";
import type { Scenario } from "./main.js";

export const collection = "scenario";
const subjects = ["a cat that purrs", "a dog that barks", "a horse that gallops", "a cow that moos"];

export const text = (n: number) => `document ${n} is about ${subjects[n % 4]}`;
export const byText = (value: string) => query({ case: "text", value });
const query = (query: Query["query"]) => create(QuerySchema, { query });
const id = (n: number) => `doc-${String(n).padStart(4, "0")}`;
const metadata = (n: number) => ({ number: n, even: n % 2 === 0, tags: [`t${n % 3}`], author: { name: "Ann" } });

function document(n: number) {
  const wrong = n === 123 ? { vector: { values: [1, 0] } } : {};
  return { id: id(n), text: text(n), metadata: metadata(n), ...wrong };
}

// Not by `upload` of the package, because the scenario says which document is in which message.
export async function upload({ client }: Scenario): Promise<void> {
  let answered = () => {};
  const answer = new Promise<void>((resolve) => (answered = resolve));
  async function* messages() {
    for (let message = 0; message < 20; message++) {
      if (message === 19) await answer;
      yield { collection, documents: Array.from({ length: 50 }, (_, n) => document(message * 50 + n)) };
    }
  }
  const errors: UploadError[] = [];
  let last;
  for await (last of client.upload(messages())) {
    answered();
    errors.push(...last.errors);
  }
  assert.deepEqual([last?.received, last?.committed, last?.done], [1000n, 999n, true]);
  assert.deepEqual(errors.map((error) => error.position), [123n]);
  namesField(failure(present(errors[0]?.status)), "documents[23].vector");
}

async function finds42({ client }: Scenario, query: Query): Promise<Hit> {
  const wanted = { withText: true, withMetadata: true, withVector: true };
  const { results } = await client.topK({ collection, queries: [query], k: 3, ...wanted });
  const { hits } = present(results[0]);
  assert.equal(hits.length, 3);
  assert.equal(hits[0]?.id, id(42));
  return present(hits[0]);
}

export async function topKText(scenario: Scenario): Promise<void> {
  const hit = await finds42(scenario, byText(text(42)));
  assert.equal(hit.text, text(42));
  assert.deepEqual(hit.metadata, metadata(42));
  scenario.found = hit;
}

export async function topKVector(scenario: Scenario): Promise<void> {
  const vector = fromFloat32(toFloat32(present(scenario.found?.vector)));
  await finds42(scenario, query({ case: "vector", value: vector }));
}

export async function topKId(scenario: Scenario): Promise<void> {
  await finds42(scenario, query({ case: "id", value: id(42) }));
}

export async function filters({ client }: Scenario): Promise<void> {
  const matching = async (filter: Filter) => {
    const { results } = await client.topK({ collection, queries: [byText("a dog")], k: 1000, filter });
    return present(results[0]).hits.map((hit) => hit.id).sort();
  };
  const messages = await matching(filter.all(
    filter.range("number", { gte: 100, lt: 900 }),
    filter.not(filter.equals("even", true)),
    filter.exists("author.name"),
    filter.any(filter.in("tags", ["t2", "t9"]), filter.equals("number", -1)),
  ));
  assert.deepEqual([messages.length, messages[0], messages[133]], [134, id(101), id(899)]);
  const written = "100 <= number < 900 and not even = true and author.name exists " +
    'and (tags in ("t2", "t9") or number = -1)';
  assert.deepEqual(await matching(filter.text(written)), messages);
}

export async function list({ client }: Scenario): Promise<void> {
  const ids: string[] = [];
  let [pages, pageToken] = [0, ""];
  do {
    const page = await client.listDocuments({ collection, pageSize: 300, pageToken });
    ids.push(...page.documents.map((document) => document.id));
    pageToken = page.nextPageToken;
    pages += 1;
  } while (pageToken !== "");
  assert.deepEqual([pages, ids.length], [4, 999]);
  assert.deepEqual(ids, [...ids].sort());
}

export async function exported({ client }: Scenario): Promise<void> {
  let documents = 0;
  for await (const part of client.export({ collection })) {
    assert.equal(part.total, 999n);
    documents += part.documents.length;
  }
  assert.equal(documents, 999);
}

export async function deleted({ client }: Scenario): Promise<void> {
  const byIds = await client.deleteDocuments({ collection, ids: [id(0), id(123)] });
  assert.deepEqual([byIds.deleted, byIds.missing], [[id(0)], [id(123)]]);
  const byFilter = await client.deleteDocuments({ collection, filter: filter.text("number >= 900") });
  assert.equal(byFilter.documents, 100n);
}

export async function drop({ client }: Scenario): Promise<void> {
  assert.equal((await client.deleteCollection({ name: collection })).documents, 898n);
}
