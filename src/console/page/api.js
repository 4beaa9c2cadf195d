// Calls of the server, as JSON over the Connect protocol: one POST for each.

const KEY = "cognate-key";

/** An error of the server: its code, its message, and the fields that it calls wrong. */
export class CallError extends Error {
  constructor(code, message, details) {
    super(message);
    this.code = code;
    this.fields = details.flatMap((detail) => detail.debug?.fieldViolations ?? []).map((wrong) => wrong.field);
  }
}

/** The key of this browser tab; an empty string: none. */
export const key = () => sessionStorage.getItem(KEY) ?? "";

/** Keeps a key until the tab is closed. */
export function useKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

/** Calls a unary method. Absent numbers and lists are absent in the answer too: 64-bit numbers are strings. */
export async function call(method, request = {}, signal = undefined) {
  const headers = { "content-type": "application/json", "connect-protocol-version": "1" };
  if (key()) headers.authorization = `Bearer ${key()}`;
  let response;
  try {
    const body = JSON.stringify(request);
    response = await fetch(`cognate.v1.Cognate/${method}`, { method: "POST", headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new CallError("unavailable", `The server does not answer (${error.message}).`, []);
  }
  const body = await response.json().catch(() => ({ code: "unknown", message: `HTTP ${response.status}` }));
  if (!response.ok) throw new CallError(body.code, body.message ?? body.code, body.details ?? []);
  return body;
}

/** All collections that the caller may see, from all pages. */
export async function collections() {
  const all = [];
  let pageToken = "";
  do {
    const page = await call("ListCollections", { pageToken });
    all.push(...(page.collections ?? []));
    pageToken = page.nextPageToken ?? "";
  } while (pageToken);
  return all;
}

/** The numbers of a vector, whichever of the two formats it has: a list of floats, or their bytes in base64. */
export function floats(vector) {
  if (vector.values) return Float32Array.from(vector.values);
  const bytes = Uint8Array.from(atob(vector.data), (character) => character.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}
