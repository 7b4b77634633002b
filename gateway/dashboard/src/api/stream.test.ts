import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Connection } from "../domain/connection";
import { SILENCE_MAX_MS } from "../domain/connection";
import type { ServerMessage } from "./schema";
import { type Socket, Stream } from "./stream";

class Fake {
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onopen: (() => void) | null = null;
  onclose: (() => void) | null = null;
  closed = false;
  constructor(readonly url: string) {}
  close() {
    this.closed = true;
  }
  say(message: unknown) {
    this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }
}

function page() {
  const sockets: Fake[] = [];
  const connections: Connection[] = [];
  const heard: ServerMessage[] = [];
  let sequence: number | null = null;
  const stream = new Stream(
    "http://ring.example/below/api/v1/ws",
    {
      message(message) {
        if (message.type === "delta" && message.sequence !== (sequence ?? 0) + 1) {
          return false;
        }
        sequence = message.sequence;
        heard.push(message);
        return true;
      },
      connection: (connection) => connections.push(connection),
      place: () => (sequence === null ? null : { stream: "s1", sequence }),
    },
    (url) => {
      const socket = new Fake(url);
      sockets.push(socket);
      return socket as unknown as Socket;
    },
  );
  return { stream, sockets, connections, heard, last: () => sockets.at(-1) as Fake };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("it says whether it is live, and goes on where it was", () => {
  const { stream, sockets, connections, last } = page();
  stream.start();
  expect(last().url).toBe("ws://ring.example/below/api/v1/ws");
  expect(connections.at(-1)).toEqual({ kind: "connecting" });
  last().say({ type: "snapshot", sequence: 7 });
  expect(connections.at(-1)).toEqual({ kind: "live" });
  const heardAt = Date.now();
  last().onclose?.();
  expect(connections.at(-1)).toMatchObject({ kind: "reconnecting", heardAt, attempt: 1 });
  vi.advanceTimersByTime(500);
  expect(sockets).toHaveLength(2);
  expect(last().url).toBe("ws://ring.example/below/api/v1/ws?stream=s1&sequence=7");
});

test("who missed nothing is live as soon as the line is open, and who has nothing waits for a picture", () => {
  const { stream, connections, last } = page();
  stream.start();
  last().onopen?.();
  expect(connections.at(-1)).toEqual({ kind: "connecting" });
  last().say({ type: "snapshot", sequence: 7 });
  last().onclose?.();
  vi.advanceTimersByTime(500);
  expect(connections.at(-1)?.kind).toBe("reconnecting");
  last().onopen?.();
  expect(connections.at(-1)).toEqual({ kind: "live" });
});

test("a gap is never shown: the stream begins anew with a snapshot", () => {
  const { stream, sockets, heard, last } = page();
  stream.start();
  last().say({ type: "snapshot", sequence: 1 });
  last().say({ type: "delta", sequence: 3 });
  expect(sockets[0]?.closed).toBe(true);
  expect(last().url).toBe("ws://ring.example/below/api/v1/ws");
  last().say({ type: "snapshot", sequence: 3 });
  expect(heard.map((message) => message.sequence)).toEqual([1, 3]);
});

test("what is no message of ours begins anew, too", () => {
  for (const nonsense of ["{", "null", '{"type":"other"}', "[]"]) {
    const { stream, sockets, last } = page();
    stream.start();
    last().say(nonsense);
    expect(sockets, nonsense).toHaveLength(2);
  }
});

test("a silent line counts as broken", () => {
  const { stream, sockets, connections, last } = page();
  stream.start();
  last().say({ type: "snapshot", sequence: 1 });
  vi.advanceTimersByTime(SILENCE_MAX_MS + 1);
  expect(sockets[0]?.closed).toBe(true);
  expect(connections.at(-1)?.kind).toBe("reconnecting");
});

test("waits grow to ten seconds, and hurrying skips one", () => {
  const { stream, sockets, connections, last } = page();
  stream.start();
  for (let failures = 0; failures < 12; failures += 1) {
    last().onclose?.();
    vi.advanceTimersByTime(10_000);
  }
  expect(sockets).toHaveLength(13);
  last().onclose?.();
  const { retryAt } = connections.at(-1) as Extract<Connection, { kind: "reconnecting" }>;
  expect(retryAt - Date.now()).toBeGreaterThan(4_900);
  stream.hurry();
  expect(sockets).toHaveLength(14);
  stream.stop();
  vi.advanceTimersByTime(60_000);
  expect(sockets).toHaveLength(14);
});
