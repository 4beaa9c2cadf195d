// The client for Node.js.

export { type CognateClient, type CommonOptions, connect, type ConnectOptions } from "./connect.js";
export * from "./messages.js";
export { type NewDocument, upload } from "./upload.js";
