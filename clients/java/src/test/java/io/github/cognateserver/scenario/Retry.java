package io.github.cognateserver.scenario;

import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.StatusException;
import io.grpc.protobuf.StatusProto;
import java.util.concurrent.TimeUnit;

/** Repeats a call as long as the server says when to try again. */
final class Retry {
  /** A call of a stub. */
  interface Call<T> {
    T run() throws StatusException;
  }

  private Retry() {}

  /** Returns the answer of the call, or throws the first failure without RetryInfo. The stub's deadline ends it. */
  static <T> T retry(Call<T> call) throws StatusException, InterruptedException {
    while (true) {
      try {
        return call.run();
      } catch (StatusException failure) {
        Duration delay = delay(failure);
        if (delay == null) {
          throw failure;
        }
        TimeUnit.NANOSECONDS.sleep(TimeUnit.SECONDS.toNanos(delay.getSeconds()) + delay.getNanos());
      }
    }
  }

  private static Duration delay(StatusException failure) {
    Status status = StatusProto.fromThrowable(failure);
    for (Any detail : status.getDetailsList()) {
      if (detail.is(RetryInfo.class)) {
        try {
          return detail.unpack(RetryInfo.class).getRetryDelay();
        } catch (InvalidProtocolBufferException damaged) {
          return null;
        }
      }
    }
    return null;
  }
}
