// Bundles the demo page's scripts and styles into ../static, with the licences of what is inside.

import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const out = path.join(here, "..", "static");

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });

const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: {
    upload: "src/upload.js",
    page: "src/page.css",
    uppy: "src/uppy.js",
    "uppy-page": "src/uppy.css",
  },
  outdir: out,
  bundle: true,
  format: "esm",
  target: ["chrome111", "firefox113", "safari16.4"],
  minify: true,
  metafile: true,
  legalComments: "none",
  logLevel: "warning",
});

await writeFile(path.join(out, "licenses.txt"), await licences(Object.keys(metafile.inputs)));

async function licences(inputs) {
  const packages = new Set();
  for (const input of inputs) {
    const match = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (match) packages.add(match[1]);
  }
  const texts = [];
  for (const folder of [...packages].sort()) {
    const about = JSON.parse(await readFile(path.join(here, folder, "package.json"), "utf8"));
    const names = await readdir(path.join(here, folder));
    const file = names.find((name) => /^licen[cs]e/i.test(name));
    const text = file ? await readFile(path.join(here, folder, file), "utf8") : "";
    texts.push(`${about.name} ${about.version} (${about.license ?? "see below"})\n\n${text.trim()}`);
  }
  return texts.join(`\n\n${"-".repeat(78)}\n\n`) + "\n";
}
