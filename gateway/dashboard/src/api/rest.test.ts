import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { example } from "../testing/samples";
import { type ApiError, api } from "./rest";
import type { Problem } from "./schema";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function gateway(...answers: (Response | Error)[]) {
  const asked: string[] = [];
  const fetching = async (url: URL | RequestInfo) => {
    asked.push(String(url));
    const answer = answers.shift();
    if (answer instanceof Response) {
      return answer;
    }
    throw answer ?? new Error("asked once too often");
  };
  return { asked, api: api("http://ring.example/below/api/v1/", fetching as typeof fetch) };
}
const json = (body: unknown, status = 200, headers = {}) => new Response(JSON.stringify(body), { status, headers });
/** Waits pass at once. */
async function soon<T>(answer: Promise<T>): Promise<T> {
  // It may fail before anybody looks.
  answer.catch(() => undefined);
  await vi.runAllTimersAsync();
  return answer;
}
const problem = example<Problem>("problem");

test("questions go below the base path, with what is asked escaped", async () => {
  const { asked, api: it } = gateway(json({}), json({}), json({}));
  await it.lookup({ key: "a&b=ü" }, "f".repeat(40));
  await it.fingers("0".repeat(40));
  await it.events(7);
  expect(asked).toEqual([
    `http://ring.example/below/api/v1/lookup?key=a%26b%3D%C3%BC&from=${"f".repeat(40)}`,
    `http://ring.example/below/api/v1/ring/nodes/${"0".repeat(40)}/fingers?`.replace(/\?$/, ""),
    "http://ring.example/below/api/v1/events?since=7",
  ]);
});

test("what may pass is asked again, as late as the gateway says", async () => {
  const { asked, api: it } = gateway(
    new Error("down"),
    json(problem, 503, { "retry-after": "1" }),
    json({ events: [] }),
  );
  expect(await soon(it.events(0))).toEqual({ events: [] });
  expect(asked).toHaveLength(3);
});

test("a mistake is not repeated, and the gateway's words are shown", async () => {
  const { asked, api: it } = gateway(json(problem, 400));
  const error = await it.events(0).catch((error: ApiError) => error as ApiError);
  expect(error).toMatchObject({ status: 400, title: problem.title, detail: problem.detail });
  expect(asked).toHaveLength(1);
});

test("after three tries, or a long wait, it gives up", async () => {
  const three = gateway(new Error(), new Error(), new Error());
  await expect(soon(three.api.events(0))).rejects.toMatchObject({ status: 0, title: "No answer" });
  const long = gateway(json(problem, 429, { "retry-after": "60" }));
  await expect(long.api.events(0)).rejects.toMatchObject({ status: 429 });
  expect(long.asked).toHaveLength(1);
});

test("an answer that is no JSON is an error of its own", async () => {
  const { api: it } = gateway(new Response("<html>", { status: 404 }));
  await expect(it.events(0)).rejects.toMatchObject({ status: 404, detail: "The gateway gave no reason." });
});

test("who no longer waits is not answered", async () => {
  const control = new AbortController();
  const { api: it } = gateway(new Error("down"), json({}));
  const asked = it.events(0, control.signal);
  control.abort(new Error("gone"));
  await expect(asked).rejects.toThrow("gone");
});
