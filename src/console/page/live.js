// Figures of the server that move, read every second.

import { call, collections } from "./api.js";
import { attempt, bytes, count, h } from "./dom.js";

const INTERVAL_MS = 1000;
const REMEMBERED = 120;

export async function show(view) {
  const figures = {
    documents: figure("Documents", count),
    rate: figure("Documents added a second", (value) => count(Math.round(value))),
    unindexed: figure("Passages not indexed", count),
    recall: figure("Lowest recall@10", (value) => (value === undefined ? "–" : value.toFixed(3))),
    memory: figure("Memory of documents", bytes),
    file: figure("Data file", bytes),
    free: figure("Free on its disk", bytes),
    answer: figure("Time of an Info call", (value) => `${value.toFixed(1)} ms`),
  };
  const { storage: first = {} } = await call("Info");
  if (!first.directory && !Number(first.fileBytes ?? 0)) {
    // Collections are in memory alone.
    delete figures.file;
    delete figures.free;
  }
  view.append(h("div", { class: "figures" }, Object.values(figures).map((one) => one.element)));
  let before = null;
  const read = () => attempt(async () => {
    const begun = performance.now();
    const { storage = {} } = await call("Info");
    const now = performance.now();
    const documents = Number(storage.documents ?? 0);
    figures.answer.add(now - begun);
    figures.documents.add(documents);
    if (before) figures.rate.add(Math.max(0, (documents - before.documents) / ((now - before.now) / 1000)));
    before = { documents, now };
    figures.recall.add(storage.recall);
    figures.memory.add(Number(storage.memoryBytes ?? 0));
    figures.file?.add(Number(storage.fileBytes ?? 0));
    figures.free?.add(Number(storage.freeBytes ?? 0));
    figures.unindexed.add((await collections()).reduce((sum, one) => sum + Number(one.unindexed ?? 0), 0));
  });
  await read();
  let timer = setTimeout(async function again() {
    await read();
    if (timer !== null) timer = setTimeout(again, INTERVAL_MS);
  }, INTERVAL_MS);
  return () => {
    clearTimeout(timer);
    timer = null;
  };
}

/** A number with a line of its latest values. */
function figure(name, shown) {
  const values = [];
  const value = h("b", {}, "–");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "line");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(svg.namespaceURI, "polyline");
  svg.append(line);
  const add = (now) => {
    value.textContent = shown(now);
    if (now === undefined) return;
    values.push(now);
    if (values.length > REMEMBERED) values.shift();
    const [least, most] = [Math.min(...values), Math.max(...values)];
    line.setAttribute("points", values.map((one, at) =>
      `${(100 * at) / Math.max(values.length - 1, 1)},${95 - (90 * (one - least)) / (most - least || 1)}`).join(" "));
  };
  return { element: h("div", { class: "figure" }, h("span", { class: "muted" }, name), value, svg), add };
}
