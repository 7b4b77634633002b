// Fails the build when the page grew too large: what a phone has to load before it sees the ring.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const budgets = { js: 120_000, css: 16_000 };
const folder = new URL("../dist/assets/", import.meta.url);
for (const [kind, most] of Object.entries(budgets)) {
  const files = readdirSync(folder).filter((name) => name.endsWith(`.${kind}`));
  const bytes = files.reduce(
    (sum, name) => sum + gzipSync(readFileSync(new URL(name, folder)), { level: 9 }).length,
    0,
  );
  console.log(`${kind}: ${bytes} of ${most} bytes, gzipped`);
  if (files.length === 0 || bytes > most) {
    console.error(files.length === 0 ? `there is no .${kind} file in dist/assets` : `over the budget of ${most} bytes`);
    process.exitCode = 1;
  }
}
