import { expect, test } from "vitest";
import { distance, idAtTurn, parseId, SIZE, shareOf, toId, turnOf, turnOfId } from "./id";

test("ids are read with and without prefix, and nothing else is an id", () => {
  expect(parseId("ff")).toBe(255n);
  expect(parseId("0xFF")).toBe(255n);
  expect(parseId("f".repeat(40))).toBe(SIZE - 1n);
  for (const text of ["", "0x", "xyz", "f".repeat(41), "-1", "1 2"]) {
    expect(parseId(text)).toBeNull();
  }
  expect(toId(255n)).toBe(`${"0".repeat(38)}ff`);
  expect(toId(-1n)).toBe("f".repeat(40));
});

test("distance is clockwise and wraps past zero", () => {
  expect(distance(10n, 30n)).toBe(20n);
  expect(distance(30n, 10n)).toBe(SIZE - 20n);
  expect(distance(SIZE - 1n, 1n)).toBe(2n);
  expect(distance(7n, 7n)).toBe(0n);
});

test("turns of text and of numbers agree, and never reach one", () => {
  for (const digit of "0123456789abcdef") {
    const id = digit + "7".repeat(39);
    expect(turnOfId(id)).toBeCloseTo(turnOf(BigInt(`0x${id}`)), 12);
  }
  expect(turnOfId("f".repeat(40))).toBeLessThan(1);
  expect(turnOf(SIZE - 1n)).toBeLessThan(1);
  expect(turnOfId(`8${"0".repeat(39)}`)).toBe(0.5);
});

test("shares wrap, and one alone owns everything", () => {
  const at = (quarter: number) => toId((SIZE / 4n) * BigInt(quarter));
  expect(shareOf(at(1), at(2))).toBe(0.25);
  expect(shareOf(at(3), at(1))).toBe(0.5);
  expect(shareOf(at(2), at(2))).toBe(1);
});

test("a click's turn and its id are the same place", () => {
  for (const turn of [0, 0.125, 0.5, 0.999]) {
    expect(turnOfId(idAtTurn(turn))).toBeCloseTo(turn, 12);
  }
  expect(idAtTurn(1.25)).toBe(idAtTurn(0.25));
  expect(idAtTurn(-0.25)).toBe(idAtTurn(0.75));
});
