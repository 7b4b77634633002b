import { expect, test } from "vitest";
import { ringOf } from "../testing/samples";
import { between, differs, ease, still } from "./motion";
import { seatsOf } from "./ring";

const [three, four] = [seatsOf(ringOf(4).nodes.slice(0, 3)), seatsOf(ringOf(4).nodes)];

test("a newcomer grows in while the others make room", () => {
  const half = between(still(three), four, 0.5);
  expect(half).toHaveLength(4);
  expect(half[3]).toMatchObject({ presence: 0.5, span: 0.125 });
  expect(half.slice(0, 3).every((seat) => seat.presence === 1)).toBe(true);
  expect(between(still(three), four, 1)).toEqual(still(four));
});

test("who left fades out at its place, and is gone at the end", () => {
  const late = between(still(four), three, 0.75);
  expect(late.map((seat) => seat.node.name)).toContain("demo-node-3");
  expect(late[3]?.presence).toBeCloseTo(0.25);
  expect(between(still(four), three, 1)).toHaveLength(3);
});

test("a new way may begin in the middle of another", () => {
  const half = between(still(three), four, 0.5);
  const back = between(half, three, 0.5);
  expect(back[3]?.presence).toBeCloseTo(0.25);
  expect(back.map((seat) => seat.turn)).toEqual([...back.map((seat) => seat.turn)].sort());
});

test("nothing moves when only figures change", () => {
  const same = seatsOf(ringOf(4).nodes.map((node) => ({ ...node, uptimeMs: 99 })));
  expect(differs(still(four), same)).toBe(false);
  expect(differs(still(four), three)).toBe(true);
  expect(differs(between(still(three), four, 0.5), four)).toBe(true);
  expect(
    differs(
      still(four),
      four.map((seat) => ({ ...seat, span: seat.span / 2 })),
    ),
  ).toBe(true);
});

test("easing begins, is half way and ends where it should", () => {
  expect([ease(0), ease(0.5), ease(1)]).toEqual([0, 0.5, 1]);
});
