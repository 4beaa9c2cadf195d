// All collections with their figures.

import { collections } from "./api.js";
import { bytes, count, h } from "./dom.js";

const COLUMNS = [
  ["Documents", (one) => count(one.documents)],
  ["Passages", (one) => count(one.passageCount)],
  ["Not indexed", (one) => count(one.unindexed)],
  ["Recall@10", (one) => (one.recall === undefined ? "–" : one.recall.toFixed(3))],
  ["ef_search", (one) => count(one.efSearch)],
  ["Memory", (one) => bytes(one.bytes)],
  ["Index files", (one) => bytes(Number(one.indexFileBytes ?? 0) + Number(one.lexicalFileBytes ?? 0))],
  ["Model", (one) => one.model],
  ["Migration", (one) => migration(one.migration)],
  ["Words", (one) => (one.lexical?.enabled ? one.lexical.language || "yes" : "no")],
];

/** The state of a collection's move to another model. */
function migration(state) {
  if (!state) return "–";
  const { phase, newModel, copied, documents, failed, waitingFor } = state;
  const phases = {
    MIGRATION_PHASE_COPYING: `${count(copied)} of ${count(documents)} documents`,
    MIGRATION_PHASE_READY: "ready to switch",
    MIGRATION_PHASE_SWITCHED: "switched",
  };
  const failures = failed ? `, ${count(failed)} documents failed` : "";
  return `to ${newModel}: ${phases[phase]}${failures}${waitingFor ? `, waits: ${waitingFor}` : ""}`;
}

export async function show(view) {
  const all = await collections();
  if (all.length === 0) {
    const command = h("code", {}, "cognate upload FILE --collection NAME");
    view.append(h("p", {}, "There is no collection yet. ", command, " makes one."));
    return;
  }
  const head = h("tr", {}, h("th", { scope: "col" }, "Name"),
    COLUMNS.map(([name]) => h("th", { scope: "col", class: "number" }, name)));
  const rows = all.map((one) => h("tr", {}, h("th", { scope: "row" }, one.name),
    COLUMNS.map(([, shown]) => h("td", { class: "number" }, shown(one)))));
  view.append(h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), h("tbody", {}, rows))));
}
