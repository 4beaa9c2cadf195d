// The server that the tests call: COGNATE_ADDRESS, or the one at the default address.

import { connect, type ConnectOptions } from "../src/index.js";

export const address = process.env.COGNATE_ADDRESS ?? "127.0.0.1:50051";

/** Runs a test with a client, and closes it. */
export const withClient = (run: (client: ReturnType<typeof connect>) => Promise<void>, options?: ConnectOptions) => {
  return async () => {
    const client = connect(address, { timeoutMs: 60_000, ...options });
    try {
      await run(client);
    } finally {
      client.close();
    }
  };
};
