// What the steps of the scenario demand of answers and errors.

import assert from "node:assert/strict";
import { BadRequestSchema, type Code, ConnectError } from "../src/index.js";

/** Demands that a call fails with one of these codes, and returns its error. */
export async function fails(call: Promise<unknown>, ...codes: Code[]): Promise<ConnectError> {
  const error = await call.then(() => assert.fail("the call was answered"), (reason) => reason as unknown);
  assert(error instanceof ConnectError && codes.includes(error.code), `${codes} was expected, and found: ${error}`);
  return error;
}

/** Demands that an error is INVALID_ARGUMENT and names one field. */
export function namesField(error: ConnectError, field: string): void {
  const violations = error.findDetails(BadRequestSchema).flatMap((request) => request.fieldViolations);
  assert.deepEqual(violations.map((violation) => violation.field), [field], error.message);
}

/** Returns an item that must be there. */
export function present<T>(item: T | undefined): T {
  assert(item !== undefined, "an item is missing");
  return item;
}

export function cosine(a: Float32Array, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}
