/** A ring of real processes, which these tests change from outside and watch in the page. */
import { mkdirSync } from "node:fs";
import type { Page } from "@playwright/test";
import { ended, Processes, until } from "./processes";
import { expect, live, test as watched } from "./watched";

const NODES = 5;

const test = watched.extend<object, { ring: Processes }>({
  ring: [
    // biome-ignore lint/correctness/noEmptyPattern: Playwright reads from the pattern what is needed
    async ({}, use) => {
      const ring = await Processes.start(process.env.CHORD_BIN ?? "", NODES);
      await use(ring);
      await ring.stop();
    },
    { scope: "worker", timeout: 120_000 },
  ],
  baseURL: async ({ ring }, use) => use(ring.url),
});

// One story, told in order.
test.describe.configure({ mode: "serial", timeout: 180_000 });

/** Pictures for the README, when SCREENSHOTS names a directory. */
async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env.SCREENSHOTS;
  if (folder) {
    mkdirSync(folder, { recursive: true });
    await page.mouse.move(0, 0);
    // Colours fade into each other when the theme changes.
    await page.waitForTimeout(500);
    await page.screenshot({ path: `${folder}/${name}.png` });
  }
}

test("keys that are written are counted, and the members' figures move", async ({ page, ring }) => {
  await page.goto("");
  await live(page);
  await expect(page.locator("[data-node]")).toHaveCount(NODES);
  expect(await ended(ring.load(3000))).toBe(0);
  const list = page.getByRole("list", { name: "Members, clockwise" });
  await expect
    .poll(async () => {
      const rows = await list.getByRole("link").allTextContents();
      return rows.reduce((sum, row) => sum + Number(/([\d,]+) keys$/.exec(row)?.[1]?.replaceAll(",", "") ?? 0), 0);
    })
    .toBe(3000);
});

test("a member that joins and leaves is seen doing so, while keys are written", async ({ page, ring }) => {
  const load = ring.load(3000, "--duration", "10m", "--rate", "400");
  await page.goto("");
  await live(page);
  await expect(page.locator("[data-node]")).toHaveCount(NODES);
  const seen = await looksOf(page, "node-5");

  const newcomer = ring.join("node-5");
  if (process.env.SCREENSHOTS) {
    await page.locator('[data-node="node-5"][data-look=joining]').waitFor();
    await page.locator(".flow-in").first().waitFor();
    await picture(page, "dashboard-light");
  }
  const sign = page.locator('[data-node="node-5"]');
  await expect(sign).toHaveAttribute("data-look", "serving", { timeout: 60_000 });
  await expect(page.getByRole("group", { name: /A ring of 6 members/ })).toBeVisible();
  await expect.poll(() => seen()).toContain("joining");
  await expect.poll(() => seen()).toContain("flow-in");
  await expect(page.getByText("6 members")).toBeVisible();
  await page.getByRole("link", { name: "node-5" }).first().click();
  await expect(page.getByRole("complementary")).toContainText("160 fingers");
  await page.getByRole("link", { name: "← Overview" }).click();

  newcomer.kill("SIGTERM");
  await expect(sign).toHaveCount(0, { timeout: 60_000 });
  expect(await ended(newcomer)).toBe(0);
  expect(await seen()).toContain("leaving");
  await page.getByRole("link", { name: "Events" }).click();
  const events = page.getByRole("region", { name: "Events, newest first" });
  await expect(events).toContainText("is Joining");
  await expect(events).toContainText("handed everything over and left");
  load.kill("SIGINT");
  await ended(load);
});

/** What was ever drawn for a member, and whether keys were seen on their way. */
async function looksOf(page: Page, name: string): Promise<() => Promise<string[]>> {
  await page.evaluate((name) => {
    const seen = new Set<string>();
    Object.assign(window, { seen });
    new MutationObserver(() => {
      const look = document.querySelector(`[data-node="${name}"]`)?.getAttribute("data-look");
      if (look) {
        seen.add(look);
      }
      for (const way of ["flow-in", "flow-out"]) {
        if (document.querySelector(`.${way}`)) {
          seen.add(way);
        }
      }
    }).observe(document.body, { subtree: true, childList: true, attributes: true });
  }, name);
  return () => page.evaluate(() => [...(window as unknown as { seen: Set<string> }).seen]);
}

test("a lookup on real nodes; and the pictures of the README", async ({ page, ring }) => {
  // Whoever left stays away; another one comes.
  const newcomer = ring.join("node-6");
  const load = ring.load(5000, "--duration", "10m", "--rate", "900");
  await until("six members serve", async () => {
    const stats = (await (await fetch(`${ring.url}api/v1/stats`)).json()) as { serving: number };
    return stats.serving === NODES + 1;
  });
  await page.goto("");
  await live(page);
  await expect(page.getByText("● converged")).toBeVisible({ timeout: 60_000 });
  await page.waitForTimeout(process.env.SCREENSHOTS ? 20_000 : 0);
  await page.getByRole("link", { name: "node-2" }).first().click();
  await expect(page.getByText("160 fingers")).toBeVisible();
  await page.emulateMedia({ colorScheme: "dark" });
  await picture(page, "dashboard-dark");

  await page.getByRole("link", { name: "Lookup" }).click();
  await page.getByLabel("Key", { exact: true }).fill("colour");
  await page.getByLabel(/Asked at/).selectOption({ label: "node-4" });
  await page.getByRole("button", { name: "Look up", exact: true }).click();
  await expect(page.getByText("“colour” belongs to")).toBeVisible();
  await expect(page).toHaveURL(/step=\d+$/, { timeout: 30_000 });
  await expect(page.getByRole("button", { name: "To the end" })).toBeDisabled();
  await page.waitForTimeout(process.env.SCREENSHOTS ? 1500 : 0);
  await picture(page, "dashboard-lookup");
  load.kill("SIGINT");
  await ended(load);
  newcomer.kill("SIGTERM");
  await ended(newcomer);
});
