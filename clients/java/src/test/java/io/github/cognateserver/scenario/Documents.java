package io.github.cognateserver.scenario;

import static io.github.cognateserver.scenario.Scenario.check;
import static io.github.cognateserver.scenario.Scenario.checkField;

import com.google.protobuf.ListValue;
import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import io.github.cognateserver.v1.CognateGrpc.CognateBlockingV2Stub;
import io.github.cognateserver.v1.DeleteCollectionRequest;
import io.github.cognateserver.v1.DeleteDocumentsRequest;
import io.github.cognateserver.v1.DeleteDocumentsResponse;
import io.github.cognateserver.v1.Document;
import io.github.cognateserver.v1.ExportRequest;
import io.github.cognateserver.v1.ExportResponse;
import io.github.cognateserver.v1.ListDocumentsRequest;
import io.github.cognateserver.v1.ListDocumentsResponse;
import io.github.cognateserver.v1.UploadError;
import io.github.cognateserver.v1.UploadRequest;
import io.github.cognateserver.v1.UploadResponse;
import io.github.cognateserver.v1.Vector;
import io.grpc.StatusException;
import io.grpc.stub.BlockingClientCall;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;

/** The steps that store documents, read them and delete them. */
final class Documents {
  static final String COLLECTION = "scenario";

  private static final List<String> SUBJECTS =
      List.of("a cat that purrs", "a dog that barks", "a horse that gallops", "a cow that moos");

  private Documents() {}

  static String text(int n) {
    return "document " + n + " is about " + SUBJECTS.get(n % 4);
  }

  static String id(int n) {
    return "doc-%04d".formatted(n);
  }

  static Document document(int n) {
    Struct author = Struct.newBuilder().putFields("name", string("Ann")).build();
    ListValue tags = ListValue.newBuilder().addValues(string("t" + n % 3)).build();
    Struct metadata =
        Struct.newBuilder()
            .putFields("number", Value.newBuilder().setNumberValue(n).build())
            .putFields("even", Value.newBuilder().setBoolValue(n % 2 == 0).build())
            .putFields("tags", Value.newBuilder().setListValue(tags).build())
            .putFields("author", Value.newBuilder().setStructValue(author).build())
            .build();
    Document.Builder document = Document.newBuilder().setId(id(n)).setText(text(n)).setMetadata(metadata);
    if (n == 123) {
      document.setVector(Vector.newBuilder().addValues(1).addValues(0));
    }
    return document.build();
  }

  static Value string(String text) {
    return Value.newBuilder().setStringValue(text).build();
  }

  static void upload(CognateBlockingV2Stub cognate) throws Exception {
    BlockingClientCall<UploadRequest, UploadResponse> stream = cognate.upload();
    CountDownLatch answered = new CountDownLatch(1);
    CompletableFuture<Void> sending = CompletableFuture.runAsync(() -> send(stream, answered));
    UploadResponse last = UploadResponse.getDefaultInstance();
    List<UploadError> refused = new ArrayList<>();
    for (UploadResponse next = stream.read(); next != null; next = stream.read()) {
      answered.countDown();
      last = next;
      refused.addAll(next.getErrorsList());
    }
    sending.join();
    check(last.getReceived() == 1000 && last.getCommitted() == 999 && last.getDone(), last);
    check(refused.size() == 1 && refused.get(0).getPosition() == 123, refused);
    checkField(refused.get(0).getStatus(), "documents[23].vector");
  }

  private static void send(BlockingClientCall<UploadRequest, UploadResponse> stream, CountDownLatch answered) {
    try {
      for (int message = 0; message < 20; message++) {
        UploadRequest.Builder request = UploadRequest.newBuilder().setCollection(COLLECTION);
        for (int n = 0; n < 50; n++) {
          request.addDocuments(document(message * 50 + n));
        }
        if (message == 19) {
          answered.await();
        }
        if (!stream.write(request.build())) {
          return; // it has ended, and the reader gets the reason
        }
      }
      stream.halfClose();
    } catch (StatusException | InterruptedException failure) {
      stream.cancel("the upload cannot be sent", failure);
    }
  }

  static void list(CognateBlockingV2Stub cognate) throws StatusException {
    List<String> ids = new ArrayList<>();
    int pages = 0;
    String token = "";
    do {
      ListDocumentsRequest request =
          ListDocumentsRequest.newBuilder().setCollection(COLLECTION).setPageSize(300).setPageToken(token).build();
      ListDocumentsResponse page = cognate.listDocuments(request);
      page.getDocumentsList().forEach(document -> ids.add(document.getId()));
      pages++;
      token = page.getNextPageToken();
    } while (!token.isEmpty());
    check(pages == 4 && ids.size() == 999 && ids.equals(ids.stream().sorted().toList()), pages + " pages: " + ids);
  }

  static void export(CognateBlockingV2Stub cognate) throws Exception {
    BlockingClientCall<?, ExportResponse> stream =
        cognate.export(ExportRequest.newBuilder().setCollection(COLLECTION).build());
    int documents = 0;
    for (ExportResponse part = stream.read(); part != null; part = stream.read()) {
      check(part.getTotal() == 999, part.getTotal());
      documents += part.getDocumentsCount();
    }
    check(documents == 999, documents);
  }

  static void delete(CognateBlockingV2Stub cognate) throws StatusException {
    DeleteDocumentsRequest.Builder request = DeleteDocumentsRequest.newBuilder().setCollection(COLLECTION);
    List<String> ids = List.of(id(0), id(123));
    DeleteDocumentsResponse byIds = cognate.deleteDocuments(request.clone().addAllIds(ids).build());
    check(byIds.getDeletedList().equals(List.of(id(0))) && byIds.getMissingList().equals(List.of(id(123))), byIds);
    DeleteDocumentsRequest byFilter = request.setFilter(Search.textFilter("number >= 900")).build();
    check(cognate.deleteDocuments(byFilter).getDocuments() == 100, byFilter);
  }

  static void drop(CognateBlockingV2Stub cognate) throws StatusException {
    DeleteCollectionRequest request = DeleteCollectionRequest.newBuilder().setName(COLLECTION).build();
    long deleted = cognate.deleteCollection(request).getDocuments();
    check(deleted == 898, deleted);
  }
}
