// Elements, and what several views draw.

/** Makes an element. Attributes that are functions are listeners; `null` and `false` leave one out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2).toLowerCase(), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

let fields = 0;

/** A labelled control. `options` makes it a list of choices: `[value, text]`. */
export function field(label, attributes, options = null) {
  const id = `field-${++fields}`;
  const tag = options ? "select" : attributes.type === "text-area" ? "textarea" : "input";
  const { wide, value, ...rest } = attributes;
  if (rest.type === "text-area") delete rest.type;
  const control = h(tag, { id, ...rest }, (options ?? []).map(([key, text]) => h("option", { value: key }, text)));
  if (value !== undefined) control.value = value;
  return { control, row: h("div", { class: wide ? "field wide" : "field" }, h("label", { for: id }, label), control) };
}

/** A form that runs `submit` with a signal, one run at a time: a new one ends the one before. */
export function form(submit, label, ...rows) {
  let running = new AbortController();
  const button = h("button", { class: "main" }, label);
  const run = async (event) => {
    event?.preventDefault();
    running.abort();
    running = new AbortController();
    await attempt(() => submit(running.signal));
  };
  return h("form", { class: "form", onSubmit: run }, rows, button);
}

/** Runs something, and shows its error above the view. */
export async function attempt(run) {
  const problem = document.getElementById("problem");
  problem.hidden = true;
  try {
    await run();
  } catch (error) {
    if (error.name === "AbortError") return;
    problem.textContent = error.code ? `${error.code}: ${error.message}` : `${error}`;
    problem.hidden = false;
  }
}

/** A whole number with separators; 64-bit numbers come as strings. */
export const count = (value) => Number(value ?? 0).toLocaleString("en");

/** A number of bytes, in the largest unit that leaves at least one. */
export function bytes(value) {
  let size = Number(value ?? 0);
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  while (size >= 1024 && units.length > 1) {
    size /= 1024;
    units.shift();
  }
  return `${size < 10 && units[0] !== "B" ? size.toFixed(1) : Math.round(size)} ${units[0]}`;
}

/** A bar for a share from 0 to 1. */
export function bar(share) {
  const inner = h("div");
  inner.style.width = `${100 * Math.min(Math.max(share, 0), 1)}%`;
  return h("div", { class: "bar", "aria-hidden": "true" }, inner);
}

/** Metadata as chips, one for each field. */
export function metadata(fields) {
  const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  return h("div", { class: "chips" }, Object.entries(fields ?? {}).map(([name, value]) =>
    h("span", { class: "chip" }, `${name}: ${shown(value)}`)));
}

/** A choice of collections; the last choice is kept while the page is open. */
export function collectionField(names, onChange = undefined) {
  const made = field("Collection", { onChange: () => {
    collectionField.last = made.control.value;
    onChange?.();
  } }, names.map((name) => [name, name]));
  if (names.includes(collectionField.last)) made.control.value = collectionField.last;
  return made;
}

/** The lines of a text area, without empty ones. */
export const lines = (control) => control.value.split("\n").map((line) => line.trim()).filter(Boolean);
