// What a connection adds to each call: the key, and repetition when the server wants it.

import type { Interceptor } from "@connectrpc/connect";
import type { CommonOptions } from "./connect.js";
import { retryDelayMs } from "./failure.js";

/** Returns the interceptors for a connection to `url`. */
export function interceptors(url: URL, { key, retries = 4 }: CommonOptions): Interceptor[] {
  return key === undefined ? [retrying(retries)] : [retrying(retries), bearer(key, url)];
}

function bearer(key: string, url: URL): Interceptor {
  if (!/^[\x21-\x7e]+$/.test(key.trim())) {
    throw new TypeError("expected a key as `cognate keys create` prints it: one line of visible ASCII characters");
  }
  if (url.protocol !== "https:" && !/^(localhost|127\.[\d.]+|\[::1\])$/.test(url.hostname)) {
    throw new TypeError(`the key is not sent to ${url.host} without TLS: connect to https://${url.host}`);
  }
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${key.trim()}`);
    return next(request);
  };
}

function retrying(times: number): Interceptor {
  return (next) => async (request) => {
    for (let left = times; ; left--) {
      try {
        return await next(request);
      } catch (error) {
        const delay = retryDelayMs(error);
        // The messages of a stream are gone when it fails.
        if (delay === undefined || left <= 0 || request.stream) throw error;
        await elapsed(delay, request.signal);
      }
    }
  };
}

/** Waits for some milliseconds, or until the signal, which has the call's deadline. */
function elapsed(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => resolve(clearTimeout(timer)), { once: true });
  });
}
