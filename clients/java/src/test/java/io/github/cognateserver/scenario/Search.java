package io.github.cognateserver.scenario;

import static io.github.cognateserver.scenario.Documents.COLLECTION;
import static io.github.cognateserver.scenario.Documents.id;
import static io.github.cognateserver.scenario.Documents.string;
import static io.github.cognateserver.scenario.Documents.text;
import static io.github.cognateserver.scenario.Scenario.check;

import com.google.protobuf.Value;
import io.github.cognateserver.v1.CognateGrpc.CognateBlockingV2Stub;
import io.github.cognateserver.v1.EqualsCondition;
import io.github.cognateserver.v1.ExistsCondition;
import io.github.cognateserver.v1.Filter;
import io.github.cognateserver.v1.FilterList;
import io.github.cognateserver.v1.Hit;
import io.github.cognateserver.v1.InCondition;
import io.github.cognateserver.v1.Query;
import io.github.cognateserver.v1.RangeCondition;
import io.github.cognateserver.v1.TopKRequest;
import io.github.cognateserver.v1.TopKResponse;
import io.grpc.StatusException;
import java.util.List;

/** The steps that search. */
final class Search {
  private static final String FILTER =
      """
      100 <= number < 900 and not even = true and author.name exists and (tags in ("t2", "t9") or number = -1)""";

  /** Document 42 with its vector, as {@link #byText} finds it. */
  private Hit found;

  static Query query(String text) {
    return Query.newBuilder().setText(text).build();
  }

  static Filter textFilter(String text) {
    return Filter.newBuilder().setText(text).build();
  }

  /** Returns the hits of a call with one query. */
  private static List<Hit> hits(CognateBlockingV2Stub cognate, TopKRequest.Builder request) throws StatusException {
    TopKResponse response = cognate.topK(request.build());
    check(response.getResultsCount() == 1 && !response.getResults(0).hasError(), response);
    return response.getResults(0).getHitsList();
  }

  /** Demands that document 42 is the first of three hits, and returns it. */
  private static Hit first(CognateBlockingV2Stub cognate, Query query) throws StatusException {
    TopKRequest.Builder request = TopKRequest.newBuilder().setCollection(COLLECTION).addQueries(query).setK(3);
    List<Hit> hits = hits(cognate, request.setWithText(true).setWithMetadata(true).setWithVector(true));
    check(hits.size() == 3 && hits.get(0).getId().equals(id(42)), hits);
    return hits.get(0);
  }

  void byText(CognateBlockingV2Stub cognate) throws StatusException {
    found = first(cognate, query(text(42)));
    check(found.getText().equals(text(42)), found);
    check(found.getMetadata().equals(Documents.document(42).getMetadata()), found);
  }

  void byVector(CognateBlockingV2Stub cognate) throws StatusException {
    first(cognate, Query.newBuilder().setVector(found.getVector()).build());
  }

  void byId(CognateBlockingV2Stub cognate) throws StatusException {
    first(cognate, Query.newBuilder().setId(id(42)).build());
  }

  void filter(CognateBlockingV2Stub cognate) throws StatusException {
    Filter between = Filter.newBuilder().setRange(
        RangeCondition.newBuilder().setPath("number").setGte(100).setLt(900)).build();
    Filter named = Filter.newBuilder().setExists(ExistsCondition.newBuilder().setPath("author.name")).build();
    Filter tagged = Filter.newBuilder().setOneOf(
        InCondition.newBuilder().setPath("tags").addValues(string("t2")).addValues(string("t9"))).build();
    Filter even = equal("even", Value.newBuilder().setBoolValue(true));
    Filter negative = equal("number", Value.newBuilder().setNumberValue(-1));
    Filter.Builder all = Filter.newBuilder().setAllOf(
        FilterList.newBuilder()
            .addFilters(between)
            .addFilters(Filter.newBuilder().setNegated(even))
            .addFilters(named)
            .addFilters(Filter.newBuilder().setAnyOf(
                FilterList.newBuilder().addFilters(tagged).addFilters(negative))));
    List<String> messages = matching(cognate, all.build());
    check(messages.size() == 134 && messages.get(0).equals(id(101)) && messages.get(133).equals(id(899)), messages);
    List<String> text = matching(cognate, textFilter(FILTER));
    check(text.equals(messages), messages + "\n" + text);
  }

  private static Filter equal(String path, Value.Builder value) {
    return Filter.newBuilder().setEquals(EqualsCondition.newBuilder().setPath(path).setValue(value)).build();
  }

  /** Returns the ids of the documents that match a filter, in order. */
  private static List<String> matching(CognateBlockingV2Stub cognate, Filter filter) throws StatusException {
    TopKRequest.Builder request = TopKRequest.newBuilder().setCollection(COLLECTION).setK(1000).setFilter(filter);
    return hits(cognate, request.addQueries(query("a dog"))).stream().map(Hit::getId).sorted().toList();
  }

  void candidates(CognateBlockingV2Stub cognate) throws StatusException {
    TopKRequest.Builder request = TopKRequest.newBuilder().addQueries(query("a vehicle on rails")).setK(3);
    List<Hit> hits = hits(cognate, request.addAllCandidates(List.of("a train", "a loaf of bread", "a cat")));
    check(hits.size() == 3 && hits.stream().allMatch(Hit::hasCandidate), hits);
    check(hits.get(0).getCandidate() == 0, hits);
    check(!found.hasCandidate(), found);
  }
}
