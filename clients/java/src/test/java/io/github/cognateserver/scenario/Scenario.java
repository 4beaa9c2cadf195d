package io.github.cognateserver.scenario;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.Status;
import io.github.cognateserver.v1.CognateGrpc;
import io.github.cognateserver.v1.CognateGrpc.CognateBlockingV2Stub;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Status.Code;
import io.grpc.StatusException;
import io.grpc.protobuf.StatusProto;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Runs the steps of {@code clients/SCENARIO.md} against a server. This class has their list, and what they share. */
final class Scenario {
  static final int MAX_MESSAGE_BYTES = 16 << 20;
  static final int DIMENSIONS = 384;

  /** A part of the scenario. */
  interface Step {
    /** Runs the step by calls with a deadline. */
    void run(CognateBlockingV2Stub cognate) throws Exception;
  }

  /** A call that must fail. */
  interface Call {
    Object run() throws StatusException, InterruptedException;
  }

  private Scenario() {}

  public static void main(String[] arguments) {
    if (arguments.length != 1) {
      System.err.println("usage: Scenario HOST:PORT");
      System.exit(2);
    }
    String address = arguments[0];
    ManagedChannel channel =
        Grpc.newChannelBuilder(address, InsecureChannelCredentials.create())
            .maxInboundMessageSize(MAX_MESSAGE_BYTES)
            .build();
    Search search = new Search();
    Map<String, Step> steps = new LinkedHashMap<>();
    steps.put("info", Embeddings::info);
    steps.put("embed", Embeddings::embed);
    steps.put("embed-int8", Embeddings::embedInt8);
    steps.put("embed-stream", Embeddings::embedStream);
    steps.put("similarity", Embeddings::similarity);
    steps.put("upload", Documents::upload);
    steps.put("topk-text", search::byText);
    steps.put("topk-vector", search::byVector);
    steps.put("topk-id", search::byId);
    steps.put("filter", search::filter);
    steps.put("candidates", search::candidates);
    steps.put("list", Documents::list);
    steps.put("export", Documents::export);
    steps.put("delete", Documents::delete);
    steps.put("bad-request", Failures::badRequest);
    steps.put("resource-info", Failures::resourceInfo);
    steps.put("retry-info", Failures::retryInfo);
    steps.put("deadline", Failures::deadline);
    steps.put("cancel", Failures::cancel);
    steps.put("message-size", cognate -> Failures.messageSize(cognate, address));
    steps.put("drop", Documents::drop);
    if (System.getenv("SCENARIO_TLS") != null) {
      steps.put("tls-key", cognate -> Failures.tlsKey());
    }
    steps.forEach((name, step) -> run(name, step, CognateGrpc.newBlockingV2Stub(channel)));
    if (System.getenv("SCENARIO_TLS") == null) {
      System.out.println("skipped tls-key");
    }
    channel.shutdownNow();
  }

  private static void run(String name, Step step, CognateBlockingV2Stub cognate) {
    try {
      step.run(cognate.withDeadlineAfter(2, TimeUnit.MINUTES));
    } catch (Exception | AssertionError failure) {
      System.err.println(name + " failed");
      failure.printStackTrace();
      System.exit(1);
    }
    System.out.println("ok " + name);
  }

  static void check(boolean holds, Object found) {
    if (!holds) {
      throw new AssertionError(found);
    }
  }

  /** Returns the failure of a call that must end with one of these codes. */
  static StatusException failure(Call call, Code... expected) throws InterruptedException {
    try {
      throw new AssertionError("the call was answered: " + call.run());
    } catch (StatusException failure) {
      check(List.of(expected).contains(failure.getStatus().getCode()), failure);
      return failure;
    }
  }

  /** Returns the detail of a type in the status of a failed call. */
  static <T extends Message> T detail(StatusException failure, Class<T> type) {
    return detail(StatusProto.fromThrowable(failure), type);
  }

  /** Returns the detail of a type in a status. */
  static <T extends Message> T detail(Status status, Class<T> type) {
    try {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(type)) {
          return detail.unpack(type);
        }
      }
    } catch (InvalidProtocolBufferException damaged) {
      throw new AssertionError(damaged);
    }
    throw new AssertionError("no " + type.getSimpleName() + " in " + status);
  }

  /** Demands that a status is INVALID_ARGUMENT and names one field. */
  static void checkField(Status status, String field) {
    check(status.getCode() == Code.INVALID_ARGUMENT.value(), status);
    BadRequest wrong = detail(status, BadRequest.class);
    check(wrong.getFieldViolationsCount() == 1 && wrong.getFieldViolations(0).getField().equals(field), wrong);
  }

  static double cosine(List<Float> a, List<Float> b) {
    check(a.size() == b.size(), a.size() + " and " + b.size());
    double product = 0;
    double squareA = 0;
    double squareB = 0;
    for (int i = 0; i < a.size(); i++) {
      product += a.get(i) * b.get(i);
      squareA += a.get(i) * a.get(i);
      squareB += b.get(i) * b.get(i);
    }
    return product / Math.sqrt(squareA * squareB);
  }
}
