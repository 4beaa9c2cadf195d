// The steps of clients/SCENARIO.md: `npm run scenario HOST:PORT`.

import { connect, type CognateClient, type Hit } from "../src/index.js";
import * as documents from "./documents.js";
import * as failures from "./failures.js";
import * as texts from "./texts.js";

/** What one step leaves to the next. */
export interface Scenario {
  address: string;
  client: CognateClient;
  /** Document 42 with its vector, as the first search finds it. */
  found?: Hit;
}

const steps: Record<string, (scenario: Scenario) => Promise<void>> = {
  info: texts.info,
  embed: texts.embed,
  "embed-int8": texts.embedInt8,
  "embed-stream": texts.embedStream,
  similarity: texts.similarity,
  upload: documents.upload,
  "topk-text": documents.topKText,
  "topk-vector": documents.topKVector,
  "topk-id": documents.topKId,
  filter: documents.filters,
  candidates: texts.candidates,
  list: documents.list,
  export: documents.exported,
  delete: documents.deleted,
  "bad-request": failures.badRequest,
  "resource-info": failures.resourceInfo,
  "retry-info": failures.retryInfo,
  deadline: failures.deadline,
  cancel: failures.cancel,
  "message-size": failures.messageSize,
  drop: documents.drop,
  "tls-key": failures.tlsKey,
};

const [address] = process.argv.slice(2);
if (address === undefined) throw new Error("expected HOST:PORT");
// Errors are of interest here, so nothing is repeated by itself.
const scenario: Scenario = { address, client: connect(address, { timeoutMs: 120_000, retries: 0 }) };
for (const [name, step] of Object.entries(steps)) {
  if (name === "tls-key" && !process.env.SCENARIO_TLS) {
    console.log("skipped", name);
    continue;
  }
  try {
    await step(scenario);
  } catch (error) {
    console.error(`${name}:`, error);
    process.exit(1);
  }
  console.log("ok", name);
}
scenario.client.close();
