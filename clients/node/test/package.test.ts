// The package as users get it: installed from its file into an empty folder, where the programs of the README are
// compiled and run.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { address } from "./server.js";

const root = resolve(import.meta.dirname, "../..");
const lib = ["es2022", "dom", "dom.iterable"];
const compilerOptions = { strict: true, module: "nodenext", target: "es2022", lib, types: ["node"] };

test("the package is installed from its file, and the programs of the README run", () => {
  const folder = mkdtempSync(join(tmpdir(), "cognate-client-"));
  const run = (program: string, ...words: string[]) => {
    const { status, stdout, stderr } = spawnSync(program, words, { cwd: folder, encoding: "utf8" });
    assert.equal(status, 0, `${program} ${words.join(" ")}\n${stdout}${stderr}`);
    return stdout;
  };
  try {
    const file = run("npm", "pack", root, "--ignore-scripts", "--silent").trim();
    writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module", private: true }));
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions }));
    const { version } = JSON.parse(readFileSync(join(root, "node_modules/@types/node/package.json"), "utf8"));
    run("npm", "install", "--no-audit", "--no-fund", `./${file}`, `@types/node@${version}`);

    const readme = readFileSync(join(root, "README.md"), "utf8");
    const programs = [...readme.matchAll(/^```ts\n(.*?)^```/gms)].map(([, program]) => program!);
    assert(programs.length >= 4);
    programs.forEach((program, n) => {
      writeFileSync(join(folder, `${n}.ts`), program.replaceAll("127.0.0.1:50051", address));
    });
    run(join(root, "node_modules/.bin/tsc"));
    programs.forEach((program, n) => {
      if (program.includes("127.0.0.1:50051")) assert.notEqual(run("node", `${n}.js`), "", `program ${n} prints`);
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
