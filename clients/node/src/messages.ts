// What Node.js and browsers have in common: the messages of the contract, and help with vectors, filters and failures.

export { Code, ConnectError } from "@connectrpc/connect";
export { failure, retryDelayMs } from "./failure.js";
export { filter } from "./filter.js";
export * from "./gen/cognate/v1/cognate_pb.js";
export * from "./gen/google/rpc/error_details_pb.js";
export * from "./gen/google/rpc/status_pb.js";
export { fromFloat32, toFloat32 } from "./vector.js";
