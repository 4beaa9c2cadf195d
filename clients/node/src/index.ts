// The client for Node.js. Browsers import `cognate-client/web`.

export { type CognateClient, type CommonOptions, connect, type ConnectOptions } from "./connect.js";
export * from "./messages.js";
export { type NewDocument, upload } from "./upload.js";
