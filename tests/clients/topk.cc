// A client in C++: one search, and the reason of a call that fails. clients/README.md has the commands that generate
// and compile it, and tests/it/conformance.rs runs it.

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdio>

#include "cognate/v1/cognate.grpc.pb.h"
#include "google/rpc/error_details.pb.h"

namespace pb = cognate::v1;

int main(int count, char** words) {
  if (count != 2) return 2;
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(16 << 20);  // answers have up to 16 MiB
  auto channel = grpc::CreateCustomChannel(words[1], grpc::InsecureChannelCredentials(), arguments);
  auto cognate = pb::Cognate::NewStub(channel);

  pb::TopKRequest request;
  request.add_queries()->set_text("a vehicle on rails");
  for (const char* text : {"a loaf of bread", "a train", "a sleeping cat"}) request.add_candidates(text);
  request.set_k(3);
  request.set_with_text(true);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  pb::TopKResponse response;
  grpc::Status status = cognate->TopK(&context, request, &response);
  if (!status.ok()) {
    std::fprintf(stderr, "%d: %s\n", status.error_code(), status.error_message().c_str());
    return 1;
  }
  for (const pb::Hit& hit : response.results(0).hits()) std::printf("%.3f %s\n", hit.score(), hit.text().c_str());

  // A call that fails says why. The conditions of a filter have no names that C++ reserves.
  request.mutable_filter()->mutable_negated()->mutable_one_of()->set_path("tags");
  request.set_k(0);
  grpc::ClientContext again;
  status = cognate->TopK(&again, request, &response);
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  for (const auto& detail : details.details()) {
    google::rpc::BadRequest wrong;
    if (detail.UnpackTo(&wrong)) std::printf("wrong: %s\n", wrong.field_violations(0).field().c_str());
  }
}
