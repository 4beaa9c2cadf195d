// Uses the console as a person would, in Chromium: `node console.js ADDRESS FOLDER`. The server has the collections
// `words`, `manual` and `moving`, which is ready to be switched to the model `mean`. Prints a line for each step; a
// picture of each view goes into the folder.

import assert from "node:assert/strict";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const [address, folder] = process.argv.slice(2);
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
await page.setViewport({ width: 1200, height: 900 });
const faults = [];
page.on("pageerror", (error) => faults.push(`${error}`));
page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
page.on("request", (request) => {
  const { origin, protocol } = new URL(request.url());
  if (origin !== address && protocol !== "data:") faults.push(`the page asked for ${request.url()}`);
});

const text = (selector) => page.$eval(selector, (element) => element.innerText);
const wait = (selector) => page.waitForSelector(selector, { timeout: 20_000 });
/** The control with this label, once it is there. */
const control = async (label) => (await page.waitForFunction((wanted) => {
  const found = [...document.querySelectorAll("label")].find((one) => one.textContent.startsWith(wanted));
  return found && document.getElementById(found.htmlFor);
}, { timeout: 20_000 }, label)).asElement();
const type = async (label, value) => {
  const element = await control(label);
  await element.evaluate((one) => { one.value = ""; });
  await element.type(value);
};
const choose = async (label, value) => (await control(label)).select(value);
const open = async (name) => {
  await page.click(`#tab-${name}`);
  await wait(`#tab-${name}[aria-selected=true]`);
};
const press = async (label) => (await page.waitForFunction((wanted) =>
  [...document.querySelectorAll("main button")].find((one) => one.textContent === wanted), {}, label)).click();
const step = async (name, run) => {
  try {
    await run();
  } catch (error) {
    throw new Error(`${name}: ${await text("#problem")} ${faults.join("; ")}`, { cause: error });
  } finally {
    await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
  }
  assert.deepEqual(faults, [], name);
  console.log(`ok ${name}`);
};

await page.goto(address, { waitUntil: "load" });
await step("collections", async () => {
  await wait("main table");
  const shown = await text("main table");
  for (const name of ["words", "manual", "moving"]) assert.match(shown, new RegExp(name));
  assert.match(shown, /to mean: ready to switch/);
  assert.match(await text("#server"), /384 dimensions/);
});
await step("search", async () => {
  await open("search");
  await choose("Collection", "words");
  await type("Query", "a vehicle that runs on rails");
  await type("Filter", "part_of_speech = noun");
  await page.keyboard.press("Enter");
  await wait(".hits li");
  assert.equal((await page.$$(".hits li")).length, 10);
  assert.match(await text(".hits li"), /part_of_speech: noun/);
});
await step("passages", async () => {
  await choose("Collection", "manual");
  await choose("Search by", "SEARCH_MODE_HYBRID");
  await type("Filter", " ");
  await type("Query", "min_free_bytes");
  await press("Search");
  await page.waitForFunction(() => document.querySelector(".hits mark mark"), { timeout: 20_000 });
  assert.match(await text(".hits mark mark"), /min|free|bytes/i);
  assert.match(await text(".bars"), /words \(BM25\)/);
});
await step("wrong-filter", async () => {
  await type("Filter", "a =");
  await press("Search");
  await page.waitForFunction(() => !document.getElementById("problem").hidden);
  assert.match(await text("#problem"), /filter\.text/);
  // The browser reports each answer of 400 to its own console.
  faults.length = 0;
  await type("Filter", " ");
  await press("Search");
  await page.waitForFunction(() => document.getElementById("problem").hidden);
});
await step("similarity", async () => {
  await open("similarity");
  await press("Compare");
  await wait("td.cell");
  const cells = await page.$$eval("td.cell", (all) => all.map((one) => Number(one.textContent)));
  assert.equal(cells.length, 25);
  assert.equal(cells[0], 1);
  assert.ok(cells[1] > cells[3], "a puppy is more like a dog than a tax return is");
});
await step("map", async () => {
  await open("map");
  await choose("Collection", "words");
  await type("Colour", "part_of_speech");
  await press("Draw");
  await wait(".legend .dot");
  await page.focus("canvas");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await wait("aside h2");
  assert.match(await text("main p.muted"), /first 1,000 documents/);
});
await step("classify", async () => {
  await open("classify");
  await press("Classify");
  await wait(".hits .bars");
  assert.match(await text(".hits"), /negative[^]*positive/i);
});
await step("live", async () => {
  await open("live");
  await page.waitForFunction(() => [...document.querySelectorAll("polyline")].some((line) => line.points.length > 2));
  assert.match(await text(".figures"), /Documents/);
});
await step("keyboard", async () => {
  await page.focus("#tab-live");
  await page.keyboard.press("ArrowRight");
  await wait("#tab-collections[aria-selected=true]");
  await wait("main table");
});
await step("dark", async () => {
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  const [back, ink] = await page.evaluate(() => [getComputedStyle(document.body).backgroundColor,
    getComputedStyle(document.body).color]);
  const light = (colour) => Number(colour.match(/\d+/)[0]);
  assert.ok(light(back) < 60 && light(ink) > 180, `${back} ${ink}`);
});
await browser.close();
