package io.github.cognateserver.scenario;

import static io.github.cognateserver.scenario.Scenario.DIMENSIONS;
import static io.github.cognateserver.scenario.Scenario.check;
import static io.github.cognateserver.scenario.Scenario.checkField;
import static io.github.cognateserver.scenario.Scenario.cosine;

import io.github.cognateserver.v1.CognateGrpc.CognateBlockingV2Stub;
import io.github.cognateserver.v1.EmbedRequest;
import io.github.cognateserver.v1.EmbedResponse;
import io.github.cognateserver.v1.InfoRequest;
import io.github.cognateserver.v1.InfoResponse;
import io.github.cognateserver.v1.SimilarityRequest;
import io.github.cognateserver.v1.SimilarityResponse;
import io.github.cognateserver.v1.Truncation;
import io.github.cognateserver.v1.Vector;
import io.github.cognateserver.v1.VectorFormat;
import io.grpc.StatusException;
import io.grpc.stub.BlockingClientCall;
import java.util.ArrayList;
import java.util.List;

/** The steps that compute vectors and compare them. */
final class Embeddings {
  private Embeddings() {}

  static void info(CognateBlockingV2Stub cognate) throws StatusException {
    InfoResponse info = cognate.info(InfoRequest.getDefaultInstance());
    check(!info.getVersion().isEmpty() && info.getModel().getDimensions() == DIMENSIONS, info);
    long limit = info.getLimits().getMaxMessageBytes();
    check(limit == Scenario.MAX_MESSAGE_BYTES, limit);
  }

  static void embed(CognateBlockingV2Stub cognate) throws StatusException {
    EmbedRequest request =
        EmbedRequest.newBuilder()
            .addAllTexts(List.of("a cat", "word ".repeat(2000), "a dog"))
            .setTruncation(Truncation.TRUNCATION_REJECT)
            .build();
    EmbedResponse response = cognate.embed(request);
    check(response.getResultsCount() == 3, response.getResultsCount());
    checkField(response.getResults(1).getError(), "texts[1]");
    for (int i : List.of(0, 2)) {
      check(response.getResults(i).getVector().getValuesCount() == DIMENSIONS, response.getResults(i));
    }
  }

  static void embedInt8(CognateBlockingV2Stub cognate) throws StatusException {
    List<Float> floats = vector(cognate, VectorFormat.VECTOR_FORMAT_F32).getValuesList();
    Vector vector = vector(cognate, VectorFormat.VECTOR_FORMAT_INT8);
    check(vector.getData().size() == DIMENSIONS, vector.getData().size());
    List<Float> read = new ArrayList<>();
    for (byte code : vector.getData()) {
      read.add(code * vector.getScale());
    }
    check(cosine(read, floats) > 0.99, cosine(read, floats));
  }

  /** Returns the vector of "text 0". */
  private static Vector vector(CognateBlockingV2Stub cognate, VectorFormat format) throws StatusException {
    EmbedRequest request = EmbedRequest.newBuilder().addTexts("text 0").setFormat(format).build();
    return cognate.embed(request).getResults(0).getVector();
  }

  static void embedStream(CognateBlockingV2Stub cognate) throws Exception {
    BlockingClientCall<EmbedRequest, EmbedResponse> stream = cognate.embedStream();
    for (int i = 0; i < 10; i++) {
      EmbedRequest.Builder request = EmbedRequest.newBuilder().addTexts("text " + i);
      if (i == 4) {
        request.setDimensions(DIMENSIONS + 1);
      }
      stream.write(request.build());
    }
    stream.halfClose();
    List<Float> first = vector(cognate, VectorFormat.VECTOR_FORMAT_F32).getValuesList();
    for (int i = 0; i < 10; i++) {
      EmbedResponse response = stream.read();
      check(response != null && response.getResultsCount() == 1, response);
      if (i == 4) {
        checkField(response.getResults(0).getError(), "dimensions");
      } else {
        List<Float> values = response.getResults(0).getVector().getValuesList();
        check((cosine(values, first) > 0.9999) == (i == 0), "answer " + i);
      }
    }
    check(stream.read() == null, "an answer after the last one");
  }

  static void similarity(CognateBlockingV2Stub cognate) throws StatusException {
    SimilarityRequest request =
        SimilarityRequest.newBuilder()
            .addAllA(List.of("a cat", "a train"))
            .addAllB(List.of("a kitten", "a railway"))
            .build();
    SimilarityResponse response = cognate.similarity(request);
    check(response.getRowsCount() == 2, response);
    check(response.getRows(0).getScores(0) > response.getRows(0).getScores(1), response);
    check(response.getRows(1).getScores(1) > response.getRows(1).getScores(0), response);
  }
}
