import { expect, test, vi } from "vitest";
import type { Delta, EventList, RingEvent, Snapshot } from "../api/schema";
import { example } from "../testing/samples";
import { Store } from "./store";

const snapshot = example<Snapshot>("snapshot");
const delta = example<Delta>("delta");
const list = example<EventList>("events");

function store(events: EventList | Error = { ...list, events: [] }) {
  const asked = vi.fn(async () => {
    if (events instanceof Error) {
      throw events;
    }
    return events;
  });
  return { store: new Store({ events: asked }), asked };
}

test("a snapshot and what follows it are shown, and where to go on is known", () => {
  const { store: it } = store();
  expect(it.place()).toBeNull();
  expect(it.message(snapshot)).toBe(true);
  expect(it.place()).toEqual({ stream: snapshot.ring.stream, sequence: snapshot.sequence });
  expect(it.message(delta)).toBe(true);
  expect(it.get().byId.size).toBe(3);
  expect(it.get().events).toEqual(delta.events);
  expect(it.place()?.sequence).toBe(delta.sequence);
});

test("a delta without what came before is refused and changes nothing", () => {
  const { store: it } = store();
  expect(it.message(delta)).toBe(false);
  it.message(snapshot);
  const before = it.get();
  expect(it.message({ ...delta, sequence: delta.sequence + 1 })).toBe(false);
  expect(it.get()).toBe(before);
});

test("events of before are asked for, and those that came meanwhile are kept", async () => {
  const { store: it, asked } = store(list);
  it.message(snapshot);
  const late = { ...(list.events[0] as RingEvent), number: 10 };
  it.message({ ...delta, events: [late] });
  await vi.waitFor(() => expect(it.get().events.map((event) => event.number)).toEqual([7, 8, 9, 10]));
  expect(asked).toHaveBeenCalledWith(0);
});

test("another stream's numbers mean nothing: events begin anew", async () => {
  const { store: it } = store();
  it.message(snapshot);
  it.message(delta);
  it.message({ ...snapshot, ring: { ...snapshot.ring, stream: "another" } });
  expect(it.get().events).toEqual([]);
  await Promise.resolve();
  expect(it.get().events).toEqual([]);
});

test("that events cannot be had takes nothing from the ring", async () => {
  const { store: it } = store(new Error("no"));
  it.message(snapshot);
  await Promise.resolve();
  expect(it.get().ring).toEqual(snapshot.ring);
});

test("views are told of changes, and not of what changes nothing", () => {
  const { store: it } = store();
  const told = vi.fn();
  const stop = it.subscribe(told);
  it.connection({ kind: "live" });
  it.connection({ kind: "live" });
  expect(told).toHaveBeenCalledTimes(1);
  stop();
  it.message(snapshot);
  expect(told).toHaveBeenCalledTimes(1);
});
