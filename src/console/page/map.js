// A map of a collection's documents in two dimensions. A point's text is shown when it is pointed at, or reached with
// the arrow keys.

import { call, collections, floats } from "./api.js";
import { collectionField, count, field, form, h, metadata } from "./dom.js";
import { plane } from "./pca.js";

const MOST = 1000;
const PAGE = 250;
const COLOURS = ["#3b7dd8", "#d9822b", "#3a9e5c", "#c2385a", "#8256c8", "#6b6f76", "#b8a21f", "#1f9aa8", "#e07bb0"];
const OTHERS = "#9a9a9a";

export async function show(view) {
  const names = (await collections()).map((one) => one.name);
  if (names.length === 0) {
    view.append(h("p", {}, "There is no collection to draw yet."));
    return;
  }
  const collection = collectionField(names);
  const filter = field("Filter", { placeholder: "lang = en" });
  const colour = field("Colour by the field", { placeholder: "part_of_speech" });
  const told = h("p", { class: "muted", "aria-live": "polite" });
  const canvas = h("canvas", { tabindex: 0, role: "img", "aria-label": "Map of documents; arrow keys move between points" });
  const text = h("aside", { "aria-live": "polite" });
  const legend = h("div", { class: "legend" });
  let drawing = null;

  const submit = async (signal) => {
    const documents = await sample(collection.control.value, filter.control.value.trim(), signal, (n) => {
      told.textContent = `${count(n)} documents read …`;
    });
    if (documents.length < 3) {
      told.textContent = "A map needs at least three documents.";
      return;
    }
    const { points, shares } = plane(documents.map((document) => document.floats));
    const percent = shares.map((share) => `${(100 * share).toFixed(1)} %`).join(" and ");
    told.textContent = `The first ${count(documents.length)} documents by id. The axes show ${percent} of the variance.`;
    const groups = coloured(documents, colour.control.value.trim());
    legend.replaceChildren(...[...groups.names].map(([name, shade]) => {
      const dot = h("span", { class: "dot" });
      dot.style.background = shade;
      return h("span", {}, dot, name);
    }));
    drawing = { documents, points, shades: groups.shades, at: null };
    draw(canvas, drawing);
  };
  const choose = (at) => {
    if (!drawing || at === null || at === drawing.at) return;
    drawing.at = at;
    draw(canvas, drawing);
    const document = drawing.documents[at];
    text.replaceChildren(h("h2", {}, document.id), h("p", { class: "text" }, (document.text ?? "").slice(0, 800)),
      metadata(document.metadata));
  };
  canvas.addEventListener("pointermove", (event) => {
    if (drawing) choose(nearest(drawing.placed, [event.offsetX, event.offsetY], 20));
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || !drawing) return;
    event.preventDefault();
    choose(drawing.at === null ? 0 : neighbour(drawing.placed, drawing.at, step));
  });
  const redraw = () => drawing && draw(canvas, drawing);
  addEventListener("resize", redraw);
  view.append(form(submit, "Draw", collection.row, filter.row, colour.row), told, legend,
    h("div", { class: "map" }, canvas, text));
  return () => removeEventListener("resize", redraw);
}

/** The first documents of a collection that match, with their vectors; of a long document the first passage's. */
async function sample(collection, filter, signal, progress) {
  const documents = [];
  let pageToken = "";
  do {
    const request = { collection, pageSize: PAGE, pageToken, withVector: true };
    if (filter) request.filter = { text: filter };
    const page = await call("ListDocuments", request, signal);
    for (const document of page.documents ?? []) {
      const vector = document.vector ?? document.passages?.[0]?.vector;
      if (vector) documents.push({ ...document, floats: floats(vector) });
    }
    pageToken = page.nextPageToken ?? "";
    progress(documents.length);
  } while (pageToken && documents.length < MOST);
  return documents.slice(0, MOST);
}

/** A shade for each document by a metadata field: the most frequent values have their own. */
function coloured(documents, path) {
  const value = (document) => {
    const found = path ? path.split(".").reduce((inside, name) => inside?.[name], document.metadata) : undefined;
    return found === undefined ? null : typeof found === "string" ? found : JSON.stringify(found);
  };
  const counts = new Map();
  for (const document of documents) counts.set(value(document), (counts.get(value(document)) ?? 0) + 1);
  counts.delete(null);
  const frequent = [...counts].sort((a, b) => b[1] - a[1]).slice(0, COLOURS.length);
  const names = new Map(frequent.map(([name], at) => [name, COLOURS[at]]));
  const shades = documents.map((document) => (path ? names.get(value(document)) ?? OTHERS : COLOURS[0]));
  return { names, shades };
}

function draw(canvas, drawing) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = Math.round(width * 0.62);
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const paper = canvas.getContext("2d");
  paper.scale(ratio, ratio);
  const spans = [0, 1].map((axis) => {
    const values = drawing.points.map((point) => point[axis]);
    return [Math.min(...values), Math.max(...values)];
  });
  const margin = 14;
  const place = (value, [least, most], size) => margin + ((value - least) / (most - least || 1)) * (size - 2 * margin);
  drawing.placed = drawing.points.map(([x, y]) => [place(x, spans[0], width), place(y, spans[1], height)]);
  drawing.placed.forEach(([x, y], at) => dot(paper, x, y, 3, drawing.shades[at]));
  if (drawing.at !== null) {
    const [x, y] = drawing.placed[drawing.at];
    dot(paper, x, y, 6, drawing.shades[drawing.at]);
    paper.lineWidth = 2;
    paper.strokeStyle = getComputedStyle(canvas).color;
    paper.stroke();
  }
}

function dot(paper, x, y, radius, shade) {
  paper.beginPath();
  paper.arc(x, y, radius, 0, 2 * Math.PI);
  paper.fillStyle = shade;
  paper.fill();
}

/** The point nearest to a place, no further than `reach`; `null`: none. */
function nearest(placed, [x, y], reach) {
  let best = null;
  let least = reach ** 2;
  placed.forEach((point, at) => {
    const distance = (point[0] - x) ** 2 + (point[1] - y) ** 2;
    if (distance < least) [best, least] = [at, distance];
  });
  return best;
}

/** The nearest point in a direction: what lies aside counts double. */
function neighbour(placed, from, [dx, dy]) {
  let best = from;
  let least = Infinity;
  placed.forEach(([x, y], at) => {
    const ahead = (x - placed[from][0]) * dx + (y - placed[from][1]) * dy;
    const aside = Math.abs((x - placed[from][0]) * dy) + Math.abs((y - placed[from][1]) * dx);
    if (at !== from && ahead > 0 && ahead + 2 * aside < least) [best, least] = [at, ahead + 2 * aside];
  });
  return best;
}
