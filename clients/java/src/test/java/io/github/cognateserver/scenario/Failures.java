package io.github.cognateserver.scenario;

import static io.github.cognateserver.scenario.Documents.COLLECTION;
import static io.github.cognateserver.scenario.Scenario.check;
import static io.github.cognateserver.scenario.Scenario.checkField;
import static io.github.cognateserver.scenario.Scenario.detail;
import static io.github.cognateserver.scenario.Scenario.failure;

import com.google.rpc.ResourceInfo;
import com.google.rpc.RetryInfo;
import io.github.cognateserver.v1.CognateGrpc;
import io.github.cognateserver.v1.CognateGrpc.CognateBlockingV2Stub;
import io.github.cognateserver.v1.CreateCollectionRequest;
import io.github.cognateserver.v1.EmbedRequest;
import io.github.cognateserver.v1.EmbedResponse;
import io.github.cognateserver.v1.ExportRequest;
import io.github.cognateserver.v1.ExportResponse;
import io.github.cognateserver.v1.InfoRequest;
import io.github.cognateserver.v1.ListDocumentsRequest;
import io.github.cognateserver.v1.SimilarityRequest;
import io.github.cognateserver.v1.SimilarityResponse;
import io.github.cognateserver.v1.TopKRequest;
import io.github.cognateserver.v1.TopKResponse;
import io.github.cognateserver.v1.TopKResult;
import io.grpc.CallCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status.Code;
import io.grpc.StatusException;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.BlockingClientCall;
import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/** The steps in which a call fails, and the client must learn why. */
final class Failures {
  private static final EmbedRequest ONE_TEXT = EmbedRequest.newBuilder().addTexts("a cat").build();

  private Failures() {}

  static void badRequest(CognateBlockingV2Stub cognate) throws InterruptedException {
    TopKRequest request =
        TopKRequest.newBuilder().setCollection(COLLECTION).addQueries(Search.query("a cat")).setK(0).build();
    StatusException failure = failure(() -> cognate.topK(request), Code.INVALID_ARGUMENT);
    checkField(io.grpc.protobuf.StatusProto.fromThrowable(failure), "k");
  }

  static void resourceInfo(CognateBlockingV2Stub cognate) throws InterruptedException {
    ListDocumentsRequest request = ListDocumentsRequest.newBuilder().setCollection("nowhere").build();
    StatusException failure = failure(() -> cognate.listDocuments(request), Code.NOT_FOUND);
    ResourceInfo info = detail(failure, ResourceInfo.class);
    check(info.getResourceName().equals("nowhere"), info);
  }

  private static SimilarityResponse similar(CognateBlockingV2Stub cognate) throws StatusException {
    return cognate.similarity(SimilarityRequest.newBuilder().addA("a cat").addA("a dog").build());
  }

  static void retryInfo(CognateBlockingV2Stub cognate) throws Exception {
    List<BlockingClientCall<EmbedRequest, EmbedResponse>> streams = new ArrayList<>();
    for (int i = 0; i < 32; i++) {
      BlockingClientCall<EmbedRequest, EmbedResponse> stream = cognate.embedStream();
      stream.write(ONE_TEXT);
      check(stream.read() != null, "the stream has ended");
      streams.add(stream);
    }
    StatusException failure = failure(() -> similar(cognate), Code.RESOURCE_EXHAUSTED);
    check(detail(failure, RetryInfo.class).hasRetryDelay(), failure);
    streams.forEach(BlockingClientCall::halfClose);
    Retry.retry(() -> similar(cognate));
  }

  static void deadline(CognateBlockingV2Stub cognate) throws Exception {
    BlockingClientCall<EmbedRequest, EmbedResponse> silent =
        cognate.withDeadlineAfter(200, TimeUnit.MILLISECONDS).embedStream();
    failure(silent::read, Code.DEADLINE_EXCEEDED);

    EmbedRequest.Builder request = EmbedRequest.newBuilder();
    for (int n = 0; n < 512; n++) {
      request.addTexts(n + " a long text of many words".repeat(40));
    }
    CognateBlockingV2Stub hasty = cognate.withDeadlineAfter(200, TimeUnit.MILLISECONDS);
    failure(() -> hasty.embed(request.build()), Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED);
    similar(cognate);
  }

  static void cancel(CognateBlockingV2Stub cognate) throws Exception {
    BlockingClientCall<EmbedRequest, EmbedResponse> embeddings = cognate.embedStream();
    embeddings.write(ONE_TEXT);
    check(embeddings.read() != null, "the stream has ended");
    embeddings.cancel("it is not needed any more", null);
    failure(embeddings::read, Code.CANCELLED);

    ExportRequest request = ExportRequest.newBuilder().setCollection(COLLECTION).setWithVector(true).build();
    BlockingClientCall<?, ExportResponse> documents = cognate.export(request);
    check(documents.read() != null, "the stream has ended");
    documents.cancel("it is not needed any more", null);
    try {
      while (documents.read() != null) {
        // What has arrived is still read, and that may be everything.
      }
    } catch (StatusException failure) {
      check(failure.getStatus().getCode() == Code.CANCELLED, failure);
    }
    similar(cognate);
  }

  static void messageSize(CognateBlockingV2Stub cognate, String address) throws StatusException {
    TopKRequest.Builder builder = TopKRequest.newBuilder().setCollection(COLLECTION).setK(1000).setWithVector(true);
    for (int n = 0; n < 8; n++) {
      builder.addQueries(Search.query(Documents.text(n)));
    }
    TopKRequest request = builder.build();
    ManagedChannel channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
    try {
      TopKResponse response = CognateGrpc.newBlockingV2Stub(channel).topK(request);
      System.out.println("a client with defaults: " + response.getSerializedSize() + " bytes");
    } catch (StatusException failure) {
      System.out.println("a client with defaults: " + failure.getMessage());
    }
    channel.shutdownNow();

    List<TopKResult> results = cognate.topK(request).getResultsList();
    check(results.size() == 8 && results.stream().allMatch(result -> result.getHitsCount() == 898), results.size());
  }

  /** Sends a key with each call. */
  private static final class Key extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final String key;

    Key(String key) {
      this.key = key;
    }

    @Override
    public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
      Metadata headers = new Metadata();
      headers.put(AUTHORIZATION, "Bearer " + key);
      applier.apply(headers);
    }
  }

  static void tlsKey() throws Exception {
    InfoRequest info = InfoRequest.getDefaultInstance();
    Key writer = new Key(System.getenv("SCENARIO_WRITER_KEY"));
    Key reader = new Key(System.getenv("SCENARIO_READER_KEY"));
    ManagedChannel channel = trusting("SCENARIO_CA");
    ManagedChannel other = trusting("SCENARIO_OTHER_CA");
    CognateBlockingV2Stub cognate = CognateGrpc.newBlockingV2Stub(channel).withDeadlineAfter(2, TimeUnit.MINUTES);
    check(!cognate.withCallCredentials(writer).info(info).getVersion().isEmpty(), "no version");
    failure(() -> cognate.info(info), Code.UNAUTHENTICATED);
    CreateCollectionRequest create = CreateCollectionRequest.newBuilder().setName(COLLECTION).build();
    failure(() -> cognate.withCallCredentials(reader).createCollection(create), Code.PERMISSION_DENIED);
    CognateBlockingV2Stub mistrusting = CognateGrpc.newBlockingV2Stub(other).withCallCredentials(writer);
    StatusException refused = failure(() -> mistrusting.info(info), Code.UNAVAILABLE);
    check(refused.getCause() instanceof javax.net.ssl.SSLException, refused);
    channel.shutdownNow();
    other.shutdownNow();
  }

  /** Connects to the second server, trusting the authority in the file that a variable names. */
  private static ManagedChannel trusting(String variable) throws IOException {
    File authority = new File(System.getenv(variable));
    return Grpc.newChannelBuilder(
            System.getenv("SCENARIO_TLS"), TlsChannelCredentials.newBuilder().trustManager(authority).build())
        .maxInboundMessageSize(Scenario.MAX_MESSAGE_BYTES)
        .build();
  }
}
