// Package cognatev1 has the generated messages and stubs of the service cognate.v1.Cognate: embeddings,
// similarity, search, classification and reranking of texts over gRPC.
//
// All code except this file and the examples is generated from proto/cognate/v1/cognate.proto, whose comments are
// the reference of each call and field.
//
// Give each call a deadline. Repeat a call that failed with RESOURCE_EXHAUSTED or UNAVAILABLE only if its status has
// a google.rpc.RetryInfo, and after the time that this says: a client reports an answer that is too large for it by
// the same code. The retry policy of gRPC's service config cannot read it; the example Retry shows how to.
package cognatev1
