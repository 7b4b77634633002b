import { describe, expect, test } from "vitest";
import type { Lookup } from "../api/schema";
import { example } from "../testing/samples";
import { arcOfInterval, controlled, expectedHops, hopTimes, lastStep, ticked, whyOf } from "./lookup";

const lookup = example<Lookup>("lookup");

describe("playback", () => {
  test("goes from the start to the end and stops there", () => {
    let playback = controlled({ step: 0, playing: false }, "play", 2);
    expect(playback).toEqual({ step: 0, playing: true });
    playback = ticked(playback, 2);
    expect(playback).toEqual({ step: 1, playing: true });
    playback = ticked(playback, 2);
    expect(playback).toEqual({ step: 2, playing: false });
    expect(ticked(playback, 2)).toEqual(playback);
  });
  test("plays again from the end, and not at all without a hop", () => {
    expect(controlled({ step: 2, playing: false }, "play", 2)).toEqual({ step: 0, playing: true });
    expect(controlled({ step: 0, playing: false }, "play", 0).playing).toBe(false);
  });
  test("steps stay within, and stop it", () => {
    const playing = { step: 1, playing: true };
    expect(controlled(playing, "forward", 2)).toEqual({ step: 2, playing: false });
    expect(controlled(playing, "back", 2)).toEqual({ step: 0, playing: false });
    expect(controlled({ step: 0, playing: false }, "back", 2).step).toBe(0);
    expect(controlled({ step: 2, playing: false }, "forward", 2).step).toBe(2);
    expect(controlled(playing, { to: 99 }, 2)).toEqual({ step: 2, playing: false });
    expect(controlled(playing, "pause", 2)).toEqual({ step: 1, playing: false });
    expect([controlled(playing, "first", 2).step, controlled(playing, "last", 2).step]).toEqual([0, 2]);
  });
});

test("the gateway's example: each hop has its time and its arc, and arcs shrink until the owner's", () => {
  expect(lastStep(lookup)).toBe(2);
  expect(hopTimes(lookup)).toEqual([0, 412, 489]);
  const arcs = lookup.hops.map((hop) => arcOfInterval(hop.interval));
  expect(arcs[0]).toEqual({ start: 0.5, span: 0.675 });
  expect(arcs[1]?.span).toBeLessThan(arcs[0]?.span ?? 0);
});

test("each way of choosing is a sentence, and a new one is told as it is", () => {
  expect(whyOf("start")).toMatch(/begins|starts/);
  expect(whyOf("finger 159")).toContain("159");
  expect(whyOf("successor 3")).toContain("3");
  expect(whyOf("owner")).toContain("owns");
  expect(whyOf("by pigeon")).toBe("by pigeon");
});

test("half of log2 N hops are usual", () => {
  expect(expectedHops(1024)).toBe(5);
  expect(expectedHops(1)).toBe(0);
});
