/** Every test runs in a page that is watched: what it asks for, what it sends, and what goes wrong in it. */
import { test as base, expect, type Page } from "@playwright/test";
import type { Ring } from "../src/api/schema";

export interface Watch {
  /** Method and URL of all requests. */
  requests: { method: string; url: string }[];
  /** All that was sent over WebSockets. */
  sent: string[];
  /** Exceptions, and errors on the console. */
  errors: string[];
  /** Errors that a test causes on purpose. */
  allowed: RegExp[];
}

export const test = base.extend<{ watch: Watch }>({
  watch: [
    async ({ page, baseURL }, use) => {
      const watch: Watch = { requests: [], sent: [], errors: [], allowed: [] };
      page.on("request", (request) => watch.requests.push({ method: request.method(), url: request.url() }));
      page.on("websocket", (socket) => {
        watch.requests.push({ method: "GET", url: socket.url() });
        // A sandbox takes commands; it is no part of the real ring.
        const isSandbox = new URL(socket.url()).pathname.endsWith("/api/v1/sandbox");
        socket.on("framesent", ({ payload }) => isSandbox || watch.sent.push(String(payload)));
      });
      page.on("pageerror", (error) => watch.errors.push(String(error)));
      page.on("console", (message) => message.type() === "error" && watch.errors.push(message.text()));
      await use(watch);
      // In every test: the page only asks, only its own origin, and nothing breaks, CSP included.
      const own = new URL(baseURL ?? page.url()).host;
      expect(watch.requests.filter(({ url }) => new URL(url).host !== own && !url.startsWith("data:"))).toEqual([]);
      expect(watch.requests.filter(({ method }) => method !== "GET")).toEqual([]);
      expect(watch.sent).toEqual([]);
      expect(watch.errors.filter((error) => !watch.allowed.some((one) => one.test(error)))).toEqual([]);
    },
    { auto: true },
  ],
});

export { expect };

/** Opens a view, `path` below the base path, and waits for the ring and for the view. */
export async function open(page: Page, path = ""): Promise<void> {
  await page.goto(path);
  await live(page);
  // Some views come in a file of their own.
  await expect(page.getByText("Loading …")).toHaveCount(0);
}

export async function live(page: Page): Promise<void> {
  await expect(page.locator("[data-connection]")).toHaveAttribute("data-connection", "live");
}

/** The ring as the gateway tells it. */
export async function ringOf(page: Page): Promise<Ring> {
  const response = await page.request.get("api/v1/ring");
  expect(response.ok()).toBe(true);
  return (await response.json()) as Ring;
}

export const VIEWS = ["", "lookup?key=hello&step=1", "figures", "events"];
/** With the one in which there is something to be changed, though nothing real. */
export const ALL_VIEWS = [...VIEWS, "sandbox"];
