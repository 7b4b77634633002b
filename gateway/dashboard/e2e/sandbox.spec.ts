import { LESSONS } from "../src/domain/lessons";
import { expect, live, ringOf, test } from "./watched";

const nodes = "[data-node]";

test.beforeEach(async ({ page }) => {
  await page.goto("sandbox");
  await live(page);
  await expect(page.getByText("● the ring is as it should be")).toBeVisible();
});

test("a ring of one's own: a node joins, one is stopped, and the real ring has not changed", async ({ page }) => {
  const before = await ringOf(page);
  await expect(page.locator(nodes)).toHaveCount(8);
  await page.getByRole("button", { name: "Add a node" }).click();
  await expect(page.locator('[data-node="n8"]')).toHaveAttribute("data-look", "serving");
  const stage = page.getByRole("group", { name: /^Sandbox/ });
  await stage.focus();
  await page.keyboard.press("ArrowRight");
  await page.getByRole("button", { name: "Stop it at once" }).click();
  await expect(page.locator("[data-look=lost]")).toHaveCount(1);
  await page.getByRole("button", { name: "Start it again" }).click();
  await expect(page.locator("[data-look=serving]")).toHaveCount(9);
  expect((await ringOf(page)).nodes.map((node) => node.id)).toEqual(before.nodes.map((node) => node.id));
});

test("a key is written and read, and each step of stabilization is explained", async ({ page }) => {
  await page.getByRole("button", { name: "Write", exact: true }).click();
  await expect(page.getByText("put “colour”: acknowledged by most replicas")).toBeVisible();
  await page.getByRole("button", { name: "Read", exact: true }).click();
  await expect(page.getByText("get “colour”: “green”")).toBeVisible();
  for (let step = 0; step < 5; step += 1) {
    await page.getByRole("button", { name: "Step" }).click();
  }
  await expect(page.getByRole("button", { name: "Run" })).toBeVisible();
  await expect(
    page.getByText(/asks n\d+ for its predecessor and successors|I might be your predecessor/).first(),
  ).toBeVisible();
});

for (const { id, title, steps } of LESSONS) {
  test(`lesson: ${title}`, async ({ page }) => {
    await page.getByLabel("What would you like to see?").selectOption(id);
    for (const [at, { action, text }] of steps.entries()) {
      await page.getByRole("complementary").getByRole("button", { name: action }).click();
      await expect(page.getByText(text)).toBeVisible();
      // The ring that the rest is about must be there; for its keys the next step waits.
      if (at === 0) {
        await expect(page.getByText("● the ring is as it should be")).toBeVisible();
      }
    }
    await page.getByLabel("Speed of time").selectOption("4");
    if (id !== "failure") {
      await expect(page.getByText("● the ring is as it should be")).toBeVisible({ timeout: 45_000 });
    }
    if (id === "failure" || id === "leave") {
      await expect(page.getByText(/get “key-\d+”: “value \d+”/).first()).toBeVisible();
    }
    await expect(page.getByText(/there is no such key/)).toHaveCount(0);
  });
}
