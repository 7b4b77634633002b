import type { FingerTable, Lookup } from "../src/api/schema";
import { expect, open, ringOf, test } from "./watched";

test("the ring shows its real members, each at its place and in its state", async ({ page }) => {
  await open(page);
  const ring = await ringOf(page);
  expect(ring.nodes.length).toBeGreaterThan(0);
  const stage = page.getByRole("group", { name: /A ring of/ });
  await expect(stage).toHaveAccessibleName(new RegExp(`^A ring of ${ring.nodes.length} member`));
  const list = page.getByRole("list", { name: "Members, clockwise" });
  const names = await list.getByRole("link").evaluateAll((links) => links.map((link) => link.textContent ?? ""));
  expect(names.length).toBe(ring.nodes.length);
  for (const [at, node] of ring.nodes.entries()) {
    expect(names[at]).toContain(node.name);
    await expect(page.locator(`[data-node="${node.name}"]`)).toBeAttached();
  }
  await expect(page.getByRole("heading", { level: 1 })).toContainText(ring.name);
});

test("a member's details are its own: place, neighbours, figures and all 160 fingers", async ({ page }) => {
  await open(page);
  const ring = await ringOf(page);
  const node = ring.nodes[0];
  if (!node) {
    throw new Error("the ring has no members");
  }
  await page.getByRole("link", { name: node.name }).first().click();
  await expect(page).toHaveURL(new RegExp(`nodes/${node.id}$`));
  const panel = page.getByRole("complementary", { name: `Member ${node.name}` });
  await expect(panel.getByRole("heading", { level: 2 })).toHaveText(node.name);
  await expect(panel).toContainText(node.id);
  await expect(panel).toContainText(node.version ?? "");
  for (const id of node.successors) {
    const successor = ring.nodes.find((one) => one.id === id);
    await expect(panel.getByRole("link", { name: successor?.name ?? id, exact: true }).first()).toBeVisible();
  }
  const table = (await (await page.request.get(`api/v1/ring/nodes/${node.id}/fingers`)).json()) as FingerTable;
  await expect(panel).toContainText("160 fingers");
  await expect(panel.getByRole("table").getByRole("row")).toHaveCount(table.folded.length + 1);
  await expect(page.locator("[data-overlay=node]")).toBeAttached();
  // The way back, and a link that still works when opened anew.
  await page.reload();
  await expect(panel.getByRole("heading", { level: 2 })).toHaveText(node.name);
  await page.goBack();
  await expect(page.getByRole("complementary", { name: "Overview" })).toBeVisible();
});

test("members are chosen with the keyboard alone", async ({ page }) => {
  await open(page);
  const { nodes } = await ringOf(page);
  const stage = page.getByRole("group", { name: /A ring of/ });
  await stage.focus();
  await page.keyboard.press("ArrowRight");
  await expect(page.getByRole("heading", { level: 2 })).toHaveText(nodes[0]?.name ?? "");
  await page.keyboard.press("ArrowRight");
  await expect(page.getByRole("heading", { level: 2 })).toHaveText(nodes[1 % nodes.length]?.name ?? "");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  await expect(page.getByRole("heading", { level: 2 })).toHaveText(nodes.at(-1)?.name ?? "");
  await page.keyboard.press("Escape");
  await expect(page.getByRole("complementary", { name: "Overview" })).toBeVisible();
});

test("a click on the circle chooses the member there", async ({ page }) => {
  await open(page);
  const { nodes } = await ringOf(page);
  for (const node of nodes.slice(0, 3)) {
    const marker = await page.locator(`[data-node="${node.name}"]`).boundingBox();
    if (!marker) {
      throw new Error(`${node.name} is not drawn`);
    }
    await page.mouse.click(marker.x + marker.width / 2, marker.y + marker.height / 2);
    await expect(page.getByRole("heading", { level: 2 })).toHaveText(node.name);
  }
});

test("a lookup is walked hop by hop, as the ring really walked it", async ({ page }) => {
  await open(page, "lookup");
  const { nodes } = await ringOf(page);
  const from = nodes.at(-1);
  if (!from) {
    throw new Error("the ring has no members");
  }
  await page.getByLabel("Key", { exact: true }).fill("a key & more");
  await page.getByLabel(/Asked at/).selectOption(from.id);
  const answered = page.waitForResponse((response) => response.url().includes("/api/v1/lookup"));
  await page.getByRole("button", { name: "Look up", exact: true }).click();
  const lookup = (await (await answered).json()) as Lookup;
  expect(lookup.key).toBe("a key & more");
  expect(lookup.from.id).toBe(from.id);
  const last = lookup.hops.length - 1;
  const hops = page
    .getByRole("list")
    .filter({ has: page.getByText("the lookup starts here") })
    .getByRole("listitem");
  await expect(hops).toHaveCount(lookup.hops.length);
  for (const [at, hop] of lookup.hops.entries()) {
    await expect(hops.nth(at)).toContainText(hop.node.name);
  }
  // By itself it plays to the end; then back to the start, and step by step.
  await expect(page).toHaveURL(new RegExp(`step=${last}$`), { timeout: 10_000 + 3000 * last });
  const slider = page.getByRole("slider", { name: "Hop" });
  if (last > 0) {
    await page.getByRole("button", { name: "To the start" }).click();
  }
  const sought = page.locator("[data-sought]");
  for (let step = 0; step <= last; step += 1) {
    await expect(slider).toHaveValue(String(step));
    await expect(hops.nth(step)).toHaveAttribute("aria-current", "step");
    const share = lookup.hops[step]?.interval.share ?? 0;
    await expect(sought).toHaveAttribute("data-sought", share.toFixed(4));
    if (step < last) {
      await page.getByRole("button", { name: "One hop on" }).click();
    }
  }
  await expect(page.getByText(`“a key & more” belongs to ${lookup.owner.name}`)).toBeVisible();
  if (lookup.leader) {
    await expect(page.getByRole("complementary")).toContainText(`ask ${lookup.leader.name}`);
  }
});

test("a shared lookup shows the same question at the same step", async ({ page, context, watch }) => {
  await open(page, "lookup?key=shared&step=0");
  const address = page.getByRole("textbox", { name: "Address of this view" });
  await expect(address).toHaveValue(/lookup\?key=shared&step=0$/);
  const other = await context.newPage();
  await other.goto(await address.inputValue());
  await expect(other.getByText("“shared” belongs to")).toBeVisible();
  await expect(other.getByRole("slider", { name: "Hop" })).toHaveValue("0");
  await expect(other.getByLabel("Key", { exact: true })).toHaveValue("shared");
  expect(watch.errors).toEqual([]);
});

test("what cannot be asked is said where it was typed, and nothing is asked", async ({ page, watch }) => {
  await open(page, "lookup");
  const asked = () => watch.requests.filter(({ url }) => url.includes("/api/v1/lookup")).length;
  const target = page.locator("#target");
  await page.getByRole("button", { name: "Look up", exact: true }).click();
  await expect(page.getByRole("alert")).toHaveText("Give a key.");
  await target.fill("k".repeat(1025));
  await page.getByRole("button", { name: "Look up", exact: true }).click();
  await expect(page.getByRole("alert")).toContainText("1025");
  await page.getByRole("button", { name: "look for an identifier instead" }).click();
  await target.fill("xyz");
  await page.getByRole("button", { name: "Look up", exact: true }).click();
  await expect(page.getByRole("alert")).toContainText("hexadecimal");
  expect(asked()).toBe(0);
  await target.fill("2cf24d");
  await page.getByRole("button", { name: "Look up", exact: true }).click();
  await expect(page.getByText("This place belongs to")).toBeVisible();
  expect(asked()).toBe(1);
});

test("figures are the gateway's", async ({ page }) => {
  await open(page, "figures");
  const { stats, nodes } = await ringOf(page);
  const main = page.getByRole("main");
  await expect(main).toContainText(stats.converged ? "converged" : "not converged");
  await expect(main.getByText("Keys led by each member")).toBeVisible();
  await expect(main).toContainText(`${nodes.length}`);
  await expect(page.getByRole("img", { name: /^Operations per second/ })).toBeVisible();
});
