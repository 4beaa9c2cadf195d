// The cosines of each pair of texts, as a heat map.

import { call } from "./api.js";
import { field, form, h, lines } from "./dom.js";

const START = ["a small dog", "a puppy", "a kitten", "a tax return", "income statement"].join("\n");

export async function show(view) {
  const rows = field("Texts, one on each line", { type: "text-area", wide: true, value: START });
  const columns = field("Compare with (empty: with themselves)", { type: "text-area", wide: true });
  const answer = h("section", { class: "scroll", "aria-live": "polite" });
  const submit = async (signal) => {
    const a = lines(rows.control);
    const b = lines(columns.control);
    const response = await call("Similarity", { a, b }, signal);
    const heads = b.length ? b : a;
    answer.replaceChildren(h("table", {},
      h("thead", {}, h("tr", {}, h("td"), heads.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, response.rows.map((row, at) =>
        h("tr", {}, h("th", { scope: "row" }, a[at]), (row.scores ?? []).map(cell))))));
  };
  view.append(form(submit, "Compare", rows.row, columns.row), answer);
}

/** A cell whose colour goes from the card's to the accent's with the cosine. */
function cell(cosine) {
  const made = h("td", { class: "cell" }, cosine.toFixed(3));
  const share = Math.round(100 * Math.min(Math.max(cosine, 0), 1));
  made.style.background = `color-mix(in srgb, var(--bar) ${share}%, var(--card))`;
  return made;
}
