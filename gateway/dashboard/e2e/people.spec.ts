import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "@playwright/test";
import type { AxeResults } from "axe-core";
import { ALL_VIEWS, expect, open, ringOf, test, VIEWS } from "./watched";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

async function faults(page: Page): Promise<string[]> {
  // Evaluated by the debugger, not by the page: the page's own policy lets no foreign script in.
  await page.evaluate(axeSource);
  const results = await page.evaluate(() => (window as unknown as { axe: { run(): Promise<AxeResults> } }).axe.run());
  return results.violations.flatMap(({ id, nodes }) =>
    nodes.map((node) => `${id}: ${node.html} ${node.failureSummary}`),
  );
}

for (const colorScheme of ["light", "dark"] as const) {
  test(`axe finds nothing in ${colorScheme} colours`, async ({ page }) => {
    await page.emulateMedia({ colorScheme });
    await open(page);
    const [node] = (await ringOf(page)).nodes;
    for (const view of [...ALL_VIEWS, `nodes/${node?.id}`]) {
      await open(page, view);
      await expect(page.locator("html")).toHaveAttribute("data-theme", colorScheme);
      // Wait for what is asked for first.
      await expect(page.getByText(/Asking the member|On its way|Making a ring/)).toHaveCount(0);
      expect(await faults(page), view).toEqual([]);
    }
  });
}

test("nobody sees the page in the other colours first", async ({ page }) => {
  await page.emulateMedia({ colorScheme: "dark" });
  await page.addInitScript(() => {
    const watcher = new MutationObserver(() => {
      if (document.querySelector("main")) {
        watcher.disconnect();
        Object.assign(window, { first: document.documentElement.dataset.theme ?? "none yet" });
      }
    });
    watcher.observe(document, { childList: true, subtree: true });
  });
  await open(page);
  expect(await page.evaluate(() => (window as unknown as { first: string }).first)).toBe("dark");
});

test("the other colours are chosen with one press, and kept", async ({ page }) => {
  await page.emulateMedia({ colorScheme: "light" });
  await open(page);
  await page.getByRole("button", { name: "Show in dark colours" }).click();
  await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
  await page.reload();
  await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
});

for (const [width, height] of [
  [320, 568],
  [390, 844],
  [820, 1180],
  [1400, 900],
  [2560, 1440],
] as const) {
  test(`everything fits ${width} × ${height}`, async ({ page }) => {
    await page.setViewportSize({ width, height });
    for (const view of ALL_VIEWS) {
      await open(page, view);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      expect(overflow, view).toBeLessThanOrEqual(0);
    }
    await open(page);
    const stage = await page.getByRole("group", { name: /A ring of/ }).boundingBox();
    expect(Math.min(stage?.width ?? 0, stage?.height ?? 0)).toBeGreaterThan(240);
  });
}

test("nothing moves for those who want no motion", async ({ page }) => {
  await page.emulateMedia({ reducedMotion: "reduce" });
  await open(page, "lookup?key=hello");
  // It does not play: the end is shown at once.
  await expect(page).toHaveURL(/step=\d+$/);
  await expect(page.getByRole("button", { name: "To the end" })).toBeDisabled();
  const moving = await page.evaluate(() => document.getAnimations().filter((it) => it.playState === "running").length);
  expect(moving).toBe(0);
});

test("there is no control that writes", async ({ page, watch }) => {
  for (const view of VIEWS) {
    await open(page, view);
    // Forms only ask: none has a method or an action, and no word of a control speaks of a change.
    await expect(page.locator("form[action], form[method], input[type=file], [contenteditable]")).toHaveCount(0);
    const names = await page
      .locator("button, a, input, select, textarea, summary")
      .evaluateAll((all) => all.map((one) => `${one.textContent} ${one.getAttribute("aria-label") ?? ""}`));
    expect(
      names.filter((name) => /\b(put|insert|store|delete|remove|join|evict|kill|drain|set)\b/i.test(name)),
    ).toEqual([]);
    // Pressing every button there is, twice, asks for nothing but GET: see `watched.ts`.
    for (let round = 0; round < 2; round += 1) {
      await page.locator("main button").evaluateAll((all) => {
        for (const button of all) {
          (button as HTMLButtonElement).click();
        }
      });
      await page.waitForLoadState("networkidle");
    }
  }
  expect(watch.requests.length).toBeGreaterThan(0);
});
