import { expect, test } from "vitest";
import type { Condition, Ring } from "../api/schema";
import { example } from "../testing/samples";
import { explain, isSilent, parted } from "./operator";

const condition = (change: Partial<Condition>): Condition => ({
  type: "Ready",
  status: "True",
  reason: "AsExpected",
  message: "",
  since: 0,
  ...change,
});

test("a condition is good by its kind: progress and harm are good when they are not so", () => {
  expect(explain(condition({ type: "Ready", status: "True" })).isGood).toBe(true);
  expect(explain(condition({ type: "Ready", status: "False" })).isGood).toBe(false);
  expect(explain(condition({ type: "Degraded", status: "True" })).isGood).toBe(false);
  expect(explain(condition({ type: "Paused", status: "False" })).isGood).toBe(true);
});

test("what is not good says why and what to do; what is good is left alone", () => {
  const stalled = explain(condition({ status: "False", reason: "LeaveStalled" }));
  expect(stalled.why).toContain("does not get rid of its keys");
  expect(stalled.todo).toContain("take the leave back");
  expect(explain(condition({ reason: "AsExpected" }))).toMatchObject({ why: "", todo: "" });
});

test("a condition or reason that is new is shown in the operator's own words", () => {
  expect(explain(condition({ type: "Moonlit", status: "True", reason: "Full" }))).toEqual({
    isGood: true,
    means: "",
    why: "",
    todo: "",
  });
});

test("what wants attention is apart from what does not", () => {
  const all = [condition({ type: "Accepted" }), condition({ type: "Ready", status: "False" }), condition({})];
  const { open, good } = parted(all);
  expect([open.map((it) => it.type), good.map((it) => it.type)]).toEqual([["Ready"], ["Accepted", "Ready"]]);
});

test("a condition that holds says another thing than one that does not", () => {
  const [holds, fails] = [
    condition({ type: "Degraded", status: "True" }),
    condition({ type: "Degraded", status: "False" }),
  ];
  expect(explain(holds).means).toContain("fewer copies");
  expect(explain(fails).means).toContain("No key has too few");
  expect(explain(condition({ status: "Unknown" })).means).toBe("");
});

test("every condition and reason of the gateway's example is explained", () => {
  const operator = example<Ring>("ring").operator;
  for (const one of operator?.conditions ?? []) {
    expect(explain(one).means, one.type).not.toBe("");
  }
  expect(operator?.conditions.length).toBeGreaterThan(1);
});

test("an operator that has not spoken for two minutes is silent", () => {
  expect(isSilent(1000, 121_000)).toBe(false);
  expect(isSilent(1000, 121_001)).toBe(true);
});
