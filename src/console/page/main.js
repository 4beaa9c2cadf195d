// The tabs. Each view is a module with `show(view)`, which draws into an element and may return a function that ends
// it.

import { call, key, useKey } from "./api.js";
import { attempt, bytes, count, h } from "./dom.js";
import * as classify from "./classify.js";
import * as collections from "./collections.js";
import * as live from "./live.js";
import * as map from "./map.js";
import * as search from "./search.js";
import * as similarity from "./similarity.js";

const VIEWS = { collections, search, similarity, map, classify, live };
const NAMES = { collections: "Collections", search: "Search", similarity: "Similarity", map: "Map", classify: "Classify",
  live: "Live" };

const view = document.getElementById("view");
const tabs = document.getElementById("tabs");
let end = null;

function current() {
  const name = location.hash.slice(1);
  return name in VIEWS ? name : "collections";
}

async function show() {
  end?.();
  end = null;
  const name = current();
  for (const tab of tabs.children) {
    const selected = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", selected);
    tab.tabIndex = selected ? 0 : -1;
  }
  view.setAttribute("aria-labelledby", `tab-${name}`);
  view.replaceChildren();
  await attempt(async () => {
    const ended = await VIEWS[name].show(view);
    // Another tab may have been opened meanwhile.
    if (current() === name) end = ended ?? null;
    else ended?.();
  });
}

async function describeServer() {
  const { version, model, storage } = await call("Info");
  const stored = `${count(storage?.documents)} documents in ${count(storage?.collections)} collections`;
  document.getElementById("server").textContent =
    `Version ${version}. ${model.id}, ${model.dimensions} dimensions, ${model.precision} on ${model.device}. ` +
    `${stored}, ${bytes(storage?.memoryBytes)}.` + (storage?.stopped ? ` Nothing can be stored: ${storage.stopped}` : "");
}

for (const name of Object.keys(VIEWS)) {
  tabs.append(h("button", { role: "tab", id: `tab-${name}`, "aria-controls": "view", type: "button",
    onClick: () => { location.hash = name; } }, NAMES[name]));
}
tabs.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const all = [...tabs.children];
  const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
  next.focus();
  next.click();
});

const keyField = document.getElementById("key");
keyField.value = key();
document.getElementById("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(keyField.value.trim());
  attempt(describeServer).then(show);
});
addEventListener("hashchange", show);
attempt(describeServer).then(show);
