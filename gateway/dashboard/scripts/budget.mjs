// Fails the build when the page grew too large: what a phone has to load before it sees the ring, and in all.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const dist = new URL("../dist/", import.meta.url);
const page = readFileSync(new URL("index.html", dist), "utf8");
const names = readdirSync(new URL("assets/", dist));
const budgets = [
  ["js of the first view", (name) => name.endsWith(".js") && page.includes(name), 120_000],
  ["js in all", (name) => name.endsWith(".js"), 135_000],
  ["css", (name) => name.endsWith(".css"), 16_000],
];
for (const [what, counts, most] of budgets) {
  const files = names.filter(counts).map((name) => readFileSync(new URL(`assets/${name}`, dist)));
  const bytes = files.reduce((sum, file) => sum + gzipSync(file, { level: 9 }).length, 0);
  console.log(`${what}: ${bytes} of ${most} bytes, gzipped`);
  if (files.length === 0 || bytes > most) {
    console.error(files.length === 0 ? `${what}: there is no such file in dist/assets` : `${what}: over the budget`);
    process.exitCode = 1;
  }
}
