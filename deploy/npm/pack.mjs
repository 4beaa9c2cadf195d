// Packs the npm package `cognate-server` around a binary for this system, and prints the name of its file:
//
//     cargo build --release && node deploy/npm/pack.mjs target/release/cognate FOLDER
//
// npm refuses to install it on another system, processor or C library. The version is that of the binary. A package
// holds no links, so the licences, which are links here, are copied.

import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [binary, folder] = process.argv.slice(2);
if (!folder) throw new Error("expected the binary, and the folder for the package");
const version = execFileSync(binary, ["--version"], { encoding: "utf8" }).trim().split(" ")[1];
const made = mkdtempSync(join(tmpdir(), "cognate-server-"));
try {
  const here = import.meta.dirname;
  const parts = readdirSync(here).filter((name) => /^(LICENSE|NOTICE|README)/.test(name));
  parts.forEach((name) => copyFileSync(join(here, name), join(made, name)));
  mkdirSync(join(made, "bin"));
  copyFileSync(binary, join(made, "bin/cognate"));
  chmodSync(join(made, "bin/cognate"), 0o755);
  const manifest = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
  const of = { version, os: [process.platform], cpu: [process.arch] };
  if (process.platform === "linux") of.libc = [process.report.getReport().header.glibcVersionRuntime ? "glibc" : "musl"];
  writeFileSync(join(made, "package.json"), JSON.stringify({ ...manifest, ...of }, null, 2));
  mkdirSync(folder, { recursive: true });
  execFileSync("npm", ["pack", made, "--silent", "--pack-destination", folder], { stdio: "inherit" });
} finally {
  rmSync(made, { recursive: true });
}
