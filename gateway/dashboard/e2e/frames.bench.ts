/** How smooth the page is with 1,000 members, beside an empty page; and how soon it is there. Printed for `make bench`. */
import type { Page } from "@playwright/test";
import { changed, ringOf } from "../src/testing/samples";
import { before } from "./line";
import { expect, test } from "./watched";

const SECONDS = 6;
const LOADS = 5;

/** Median, 95th and 99th percentile of the times between two frames, ms. */
interface Frames {
  p50: number;
  p95: number;
  p99: number;
}

async function frames(page: Page, during: () => Promise<void> = async () => {}): Promise<Frames> {
  const measured = page.evaluate(
    (ms) =>
      new Promise<number[]>((done) => {
        const times: number[] = [];
        const step = (now: number) => {
          times.push(now);
          if (now - (times[0] ?? now) < ms) {
            requestAnimationFrame(step);
          } else {
            done(times.slice(1).map((time, at) => time - (times[at] ?? time)));
          }
        };
        requestAnimationFrame(step);
      }),
    SECONDS * 1000,
  );
  let over = false;
  const busy = (async () => {
    while (!over) {
      await during();
    }
  })();
  const sorted = (await measured).sort((a, b) => a - b);
  over = true;
  await busy;
  const at = (share: number) => Number((sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(1));
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}

const pause = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));

test("frames", async ({ page, watch }) => {
  watch.allowed.push(/status of 404/);
  await page.goto("about:blank");
  const empty = await frames(page, () => pause(50));
  const line = await before(page, ringOf(1000));
  await expect(page.locator("canvas")).toBeVisible();
  await pause(2000);
  const still = await frames(page, () => pause(50));
  // Every node's figures change, as in a ring that works.
  const delta = () => {
    const busier = (keys: number) => keys + Math.floor(Math.random() * 100);
    line.change(
      line.nodes.map((node) =>
        node.stats ? changed(node, { stats: { ...node.stats, keysLeader: busier(node.stats.keysLeader) } }) : node,
      ),
    );
  };
  const deltas = await frames(page, async () => {
    delta();
    await pause(500);
  });
  const stage = await page.getByRole("group", { name: /A ring of 1,000 members/ }).boundingBox();
  const [x, y] = stage ? [stage.x + stage.width / 2, stage.y + stage.height / 2] : [0, 0];
  let step = 0;
  const hover = await frames(page, async () => {
    step += 1;
    await page.mouse.move(x + 300 * Math.cos(step / 20), y + 300 * Math.sin(step / 20));
    if (step % 30 === 0) {
      delta();
    }
  });
  const zoom = await frames(page, async () => {
    step += 1;
    await page.mouse.wheel(0, step % 40 < 20 ? -60 : 60);
    if (step % 30 === 0) {
      delta();
    }
  });
  console.log(`FRAMES ${JSON.stringify({ empty, still, deltas, hover, zoom })}`);
});

test("first paint", async ({ browser, baseURL }) => {
  const all: { paint: number; ring: number }[] = [];
  for (let load = 0; load < LOADS; load += 1) {
    // A browser that was never here.
    const context = await browser.newContext({ baseURL: baseURL ?? "" });
    const page = await context.newPage();
    await page.goto("");
    await page.locator("[data-node]").first().waitFor({ state: "attached" });
    all.push(
      await page.evaluate(() => ({
        paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0,
        ring: performance.now(),
      })),
    );
    await context.close();
  }
  const of = (name: "paint" | "ring") => all.map((load) => Math.round(load[name])).sort((a, b) => a - b);
  const [paint, ring] = [of("paint"), of("ring")];
  const middle = Math.floor(LOADS / 2);
  console.log(`PAINT ${JSON.stringify({ paint: [paint[middle], paint.at(-1)], ring: [ring[middle], ring.at(-1)] })}`);
});
