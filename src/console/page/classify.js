// Texts, and their labels by one of the server's classifiers.

import { call } from "./api.js";
import { bar, field, form, h, lines } from "./dom.js";

const START = ["This is the worst support I have ever dealt with", "Thank you, that solved it at once"].join("\n");

export async function show(view) {
  const { classifiers = [] } = await call("Info");
  if (classifiers.length === 0) {
    view.append(h("p", {}, "The server has no classifier."));
    return;
  }
  const model = field("Classifier", {}, classifiers.map((one) => [one.name, one.name]));
  const texts = field("Texts, one on each line", { type: "text-area", wide: true, value: START });
  const answer = h("section", { "aria-live": "polite" });
  const submit = async (signal) => {
    const asked = lines(texts.control);
    const { results } = await call("Classify", { texts: asked, model: model.control.value, topN: 5 }, signal);
    answer.replaceChildren(h("ol", { class: "hits" }, results.map((result, at) => h("li", {},
      h("p", { class: "text" }, asked[at]), labels(result)))));
  };
  view.append(form(submit, "Classify", texts.row, model.row), answer);
}

function labels({ classification, error }) {
  if (error) return h("p", {}, error.message);
  const rows = (classification.scores ?? []).flatMap(({ label, score = 0 }) =>
    [h("span", {}, label), bar(score), h("span", {}, score.toFixed(3))]);
  return h("div", { class: "bars" }, rows);
}
