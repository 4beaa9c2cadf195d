// A search of a collection: hits with their texts, the match marked, and bars for the parts of their scores.

import { call, collections } from "./api.js";
import { bar, collectionField, field, form, h, metadata } from "./dom.js";

const MODES = [["SEARCH_MODE_VECTOR", "meaning"], ["SEARCH_MODE_LEXICAL", "words"], ["SEARCH_MODE_HYBRID", "both"]];

export async function show(view) {
  const names = (await collections()).map((one) => one.name);
  if (names.length === 0) {
    view.append(h("p", {}, "There is no collection to search yet."));
    return;
  }
  const { rerankers = [] } = await call("Info");
  const collection = collectionField(names);
  const query = field("Query", { wide: true, required: true, name: "query", placeholder: "a sentence, a name, a code" });
  const filter = field("Filter", { wide: true, name: "filter", placeholder: "lang = en and year >= 2020" });
  const mode = field("Search by", { name: "mode" }, MODES);
  const k = field("Hits", { type: "number", min: 1, max: 1000, value: 10 });
  const diversity = field("Diversity", { type: "number", min: 0, max: 1, step: 0.05, value: 0 });
  const rerank = field("Rerank", {}, [["", "no"], ...rerankers.map((one) => [one.name, one.name])]);
  const answer = h("section", { "aria-live": "polite" });

  const submit = async (signal) => {
    const request = {
      collection: collection.control.value,
      queries: [{ text: query.control.value }],
      k: Number(k.control.value),
      mode: mode.control.value,
      withText: true,
      withMetadata: true,
    };
    if (filter.control.value.trim()) request.filter = { text: filter.control.value };
    if (Number(diversity.control.value) > 0) request.diversity = Number(diversity.control.value);
    if (rerank.control.value) request.rerank = { model: rerank.control.value };
    const begun = performance.now();
    const { results } = await call("TopK", request, signal);
    const took = performance.now() - begun;
    const [{ hits = [], error }] = results;
    if (error) throw new Error(error.message);
    const words = request.mode === "SEARCH_MODE_VECTOR" ? new Set() : wordsOf(request.queries[0].text);
    const best = hits[0]?.score ?? 1;
    answer.replaceChildren(
      h("p", { class: "muted" }, `${hits.length} hits in ${took.toFixed(1)} ms`),
      h("ol", { class: "hits" }, hits.map((hit) => drawn(hit, words, request.mode, best))),
    );
  };
  view.append(
    form(submit, "Search", query.row, collection.row, mode.row, k.row, diversity.row, rerank.row, filter.row),
    answer,
  );
  query.control.focus();
}

/** The words of a query, for marks; the server may also find other forms of them. */
function wordsOf(text) {
  return new Set(text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []);
}

function drawn(hit, words, mode, best) {
  const bars = h("div", { class: "bars" });
  const add = (name, value, share) => {
    if (value !== undefined) bars.append(h("span", {}, name), bar(share), h("span", {}, value.toFixed(4)));
  };
  // A cosine has a scale of its own. All other scores are shown beside the best hit's.
  const isCosine = mode === "SEARCH_MODE_VECTOR" && hit.scores?.rerank === undefined;
  add("score", hit.score ?? 0, isCosine ? hit.score : (hit.score ?? 0) / (best || 1));
  add("meaning", hit.scores?.vector, hit.scores?.vector);
  add("words (BM25)", hit.scores?.lexical, (hit.scores?.lexical ?? 0) / 25);
  add("reranker", hit.scores?.rerank, 1 / (1 + Math.exp(-(hit.scores?.rerank ?? 0))));
  return h("li", {},
    h("div", { class: "hit-head" }, h("strong", {}, hit.id), bars),
    h("p", { class: "text" }, marked(hit, words)),
    metadata(hit.metadata));
}

/** The text, with the passage that matched and the words of the query marked. A long text is cut around the passage. */
function marked({ text = "", passage }, words) {
  if (!passage) return withWords(text, words);
  // A passage is told in bytes of UTF-8.
  const bytes = new TextEncoder().encode(text);
  const part = (from, to) => new TextDecoder().decode(bytes.slice(from, to));
  const [start, end] = [passage.start ?? 0, passage.end ?? bytes.length];
  const before = part(0, start).slice(-200);
  const after = part(end, bytes.length).slice(0, 200);
  return [
    before.length < start ? "… " : "", ...withWords(before, words),
    h("mark", {}, withWords(part(start, end), words)),
    ...withWords(after, words), end + after.length < bytes.length ? " …" : "",
  ];
}

function withWords(text, words) {
  if (words.size === 0) return [text];
  return text.split(/([\p{L}\p{N}]+)/u).map((part) =>
    (words.has(part.toLowerCase()) ? h("mark", { class: "word" }, part) : part));
}
