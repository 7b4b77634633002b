/** States that a healthy ring never shows: the page stands before a line that the test holds. */
import type { Page } from "@playwright/test";
import type { Node, OperatorStatus } from "../src/api/schema";
import { shareOf } from "../src/domain/id";
import { changed, example, ringOf } from "../src/testing/samples";
import { before, Line } from "./line";
import { expect, test } from "./watched";

const connection = (page: Page) => page.locator("[data-connection]");

test("a join and a leave are seen: the newcomer grows in, keys flow to it, who leaves fades out", async ({ page }) => {
  const whole = ringOf(4);
  const [first, second, third, fourth] = whole.nodes as [Node, Node, Node, Node];
  const merged = changed(first, { predecessor: third.id, ownedShare: shareOf(third.id, first.id) });
  const line = await before(page, { ...whole, nodes: [merged, second, third] });
  await expect(page.locator("[data-node]")).toHaveCount(3);

  const stats = fourth.stats as NonNullable<Node["stats"]>;
  const joining = (keysReceived: number) =>
    changed(fourth, { state: "Joining", stats: { ...stats, keysReceived, shardsMoving: 5 } });
  line.change([first, second, third, joining(0)]);
  const newcomer = page.locator(`[data-node="${fourth.name}"]`);
  await expect(newcomer).toHaveAttribute("data-look", "joining");
  line.change([first, second, third, joining(500)]);
  await expect(page.locator(".flow-in")).not.toHaveCount(0);
  await expect(page.getByRole("group", { name: /3 serving, 1 joining/ })).toBeVisible();

  line.change([first, second, third, fourth]);
  await expect(newcomer).toHaveAttribute("data-look", "serving");
  line.change([first, second, third, changed(fourth, { state: "Leaving", stats: { ...stats, shardsMoving: 5 } })]);
  await expect(newcomer).toHaveAttribute("data-look", "leaving");
  await expect(page.locator(".flow-out")).not.toHaveCount(0);

  // It is still drawn while it fades, and then it is gone.
  const fading = newcomer.evaluate(
    (sign) =>
      new Promise<boolean>((seen) => {
        new MutationObserver((_, observer) => {
          const opacity = Number(sign.getAttribute("opacity"));
          if (opacity > 0 && opacity < 1) {
            observer.disconnect();
            seen(true);
          }
        }).observe(sign, { attributes: true });
      }),
  );
  line.change([merged, second, third]);
  expect(await fading).toBe(true);
  await expect(newcomer).toHaveCount(0);
});

test("suspect, lost and unheard members differ in sign and in words", async ({ page }) => {
  const ring = ringOf(5);
  const [a, b, c, d, e] = ring.nodes as [Node, Node, Node, Node, Node];
  const since = ring.generatedAt - 90_000;
  const nodes = [
    a,
    changed(b, { reachable: false }),
    changed(c, { reachable: false, staleSince: since }),
    changed(d, { staleSince: since }),
    changed(e, { state: "Leaving" }),
  ];
  await before(page, { ...ring, nodes });
  for (const [node, look] of [
    [a, "serving"],
    [b, "suspect"],
    [c, "lost"],
    [d, "unheard"],
    [e, "leaving"],
  ] as const) {
    await expect(page.locator(`[data-node="${node.name}"]`)).toHaveAttribute("data-look", look);
  }
  const shapes = await page
    .locator("[data-node]")
    .evaluateAll((all) => all.map((one) => `${one.getAttribute("d")} ${one.getAttribute("fill")?.includes("panel")}`));
  expect(new Set(shapes).size).toBe(5);
  await page.getByRole("link", { name: c.name }).click();
  await expect(page.getByText("1 min 30 s ago. What follows is as of then.")).toBeVisible();
  await expect(page.getByText("its fingers cannot be asked for")).toBeVisible();
});

test("a line that breaks is said, and how old the picture is; it comes back where it was", async ({ page }) => {
  const line = await before(page, ringOf(3));
  await expect(connection(page)).toHaveAttribute("data-connection", "live");
  line.refuse = true;
  await line.opened[0]?.close({ code: 1001 });
  await expect(connection(page)).toHaveAttribute("data-connection", "reconnecting");
  await expect(connection(page)).toHaveAttribute("data-connection", "stale");
  await expect(page.getByRole("alert")).toContainText("The gateway is not reached. What you see is as of");
  await expect(page.locator("[data-node]")).toHaveCount(3);
  line.refuse = false;
  await expect(connection(page)).toHaveAttribute("data-connection", "live");
  await expect(page.getByRole("alert")).toHaveCount(0);
  expect(line.opened[1]?.url()).toContain(`sequence=1`);
  line.change(line.nodes.slice(0, 2));
  await expect(page.locator("[data-node]")).toHaveCount(2);
});

test("before the first picture: asking, then that nobody answers, then a ring without members", async ({ page }) => {
  const line = new Line({ ...ringOf(1), nodes: [], ringId: null });
  line.refuse = true;
  await line.attach(page);
  await page.goto("");
  await expect(
    page.getByText("Asking the gateway for the ring").or(page.getByText("The gateway does not answer")),
  ).toBeVisible();
  await expect(page.getByRole("alert")).toContainText("The gateway does not answer");
  line.refuse = false;
  await expect(page.getByText("No member of demo has answered yet")).toBeVisible();
});

test("what the gateway refuses is said in its words", async ({ page, watch }) => {
  watch.allowed.push(/status of 502/);
  const ring = ringOf(3);
  const problem = {
    ...example<object>("problem"),
    title: "Bad Gateway",
    detail: "demo-node-1 does not answer; choose another",
    status: 502,
  };
  await page.route(/\/api\/v1\/(lookup|ring\/nodes)/, (route) =>
    route.fulfill({ status: 502, contentType: "application/problem+json", json: problem }),
  );
  await before(page, ring);
  await page.getByRole("link", { name: "demo-node-1" }).click();
  await expect(page.getByRole("alert")).toContainText("choose another");
  await page.getByRole("link", { name: "Lookup" }).click();
  await page.getByLabel("Key", { exact: true }).fill("x");
  await page.getByRole("button", { name: "Look up", exact: true }).click();
  await expect(page.getByRole("alert")).toContainText("choose another");
});

test("a thousand members are painted on a canvas, found by name, and chosen by a click", async ({ page, watch }) => {
  // The gateway knows none of these, so none has fingers.
  watch.allowed.push(/status of 404/);
  const ring = ringOf(1000);
  const line = await before(page, ring);
  await expect(page.locator("canvas")).toBeVisible();
  await expect(page.locator("[data-node]")).toHaveCount(0);
  const painted = await page.locator("canvas").evaluate((canvas: HTMLCanvasElement) => {
    const { data } = canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height) ?? { data: [] };
    return data.some((byte) => byte !== 0);
  });
  expect(painted).toBe(true);
  // Only the part of the list that is seen is in the page.
  const list = page.getByRole("list", { name: "Members, clockwise" });
  expect(await list.getByRole("listitem").count()).toBeLessThan(200);
  await expect(list.getByRole("listitem").first()).toHaveAttribute("aria-setsize", "1000");
  await page.getByRole("searchbox").fill("node-777");
  await list.getByRole("link", { name: "demo-node-777" }).click();
  await expect(page.getByRole("heading", { level: 2 })).toHaveText("demo-node-777");
  // A quarter round is member 250.
  const stage = await page.getByRole("group", { name: /A ring of 1,000 members/ }).boundingBox();
  if (!stage) {
    throw new Error("there is no stage");
  }
  const radius = Math.min(stage.height / 2 - 50, stage.width / 2 - 28);
  await page.mouse.click(stage.x + stage.width / 2 + radius, stage.y + stage.height / 2);
  await expect(page.getByRole("heading", { level: 2 })).toHaveText(/demo-node-(249|250|251)/);
  line.change(line.nodes.slice(0, 999));
  await expect(page.getByRole("group", { name: /A ring of 999 members/ })).toBeVisible();
});

test("a scale is seen while it goes on, and each condition says what it means and what to do", async ({ page }) => {
  const ring = ringOf(3);
  const operator = example<{ operator: OperatorStatus }>("ring").operator;
  const line = await before(page, { ...ring, operator: null });
  await page.getByRole("link", { name: "Events" }).click();
  const panel = page.getByRole("region", { name: "Operator" });
  await expect(panel).toContainText("No operator looks after this ring");
  const idle = { ...operator, at: ring.generatedAt, wanted: 3, members: 3, serving: 3, operation: null };
  line.change(ring.nodes, [], idle);
  await expect(panel).toContainText("Nothing is under way");
  const joining = { ...operator, at: ring.generatedAt + 500, wanted: 5, members: 4, serving: 3 };
  line.change(ring.nodes, [], joining);
  await expect(panel).toContainText("demo-node-3 joins");
  await expect(panel.getByRole("progressbar")).toHaveAttribute("value", "3");
  const ready = panel.locator("[data-condition=Ready]");
  await expect(ready).toContainText("False");
  await expect(ready).toContainText("receives the keys it will hold");
  await expect(ready).toContainText("What to do: Nothing: wait.");
  await panel.getByText("1 condition is as it should be").click();
  await expect(panel.locator("[data-condition=Available]")).toContainText("Every key can be read and written");
  await expect(panel.locator("[data-condition=Available]")).not.toContainText("What to do");
  // Beside the ring it is one line; and an operator that falls silent is said to be.
  await page.getByRole("link", { name: "Ring", exact: true }).click();
  await expect(page.getByText(/Join of demo-node-3: shards are on their way/)).toBeVisible();
  line.change(ring.nodes, [], { ...joining, at: ring.generatedAt - 200_000 });
  await page.getByRole("link", { name: "Events" }).click();
  await expect(panel.getByRole("status").first()).toContainText("The operator has said nothing for");
});
