import { defineConfig } from "@playwright/test";

// DASHBOARD_URL is a gateway before any ring that stays as it is meanwhile. CHORD_BIN is a directory with chordctl,
// chord-node and chord-gateway: with it, a second set of tests starts a ring of real processes and changes it.
const needed = process.env.DASHBOARD_URL || process.env.CHORD_BIN;
if (!needed) {
  throw new Error("set DASHBOARD_URL (of a running gateway) or CHORD_BIN (a directory with the programs), or both");
}

export default defineConfig({
  testDir: "e2e",
  outputDir: "artifacts",
  // The ring's gateway counts what one address asks for.
  workers: 1,
  timeout: 90_000,
  expect: { timeout: 20_000 },
  forbidOnly: true,
  reporter: "list",
  use: {
    baseURL: process.env.DASHBOARD_URL?.replace(/\/*$/, "/"),
    viewport: { width: 1400, height: 900 },
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
  projects: [
    ...(process.env.DASHBOARD_URL ? [{ name: "page", testIgnore: "live.spec.ts" }] : []),
    // Figures, not verdicts: `cargo xtask bench` asks for them.
    ...(process.env.BENCH ? [{ name: "bench", testMatch: "*.bench.ts" }] : []),
    ...(process.env.CHORD_BIN ? [{ name: "live", testMatch: "live.spec.ts" }] : []),
  ],
});
