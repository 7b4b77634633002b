/** What the operator's conditions and reasons mean, and what to do about them. */
import type { Condition } from "../api/schema";

interface Meaning {
  /** The status that needs nobody's attention. */
  good: "True" | "False";
  /** What it means that it holds, and that it does not. */
  yes: string;
  no: string;
}

const CONDITIONS: Record<string, Meaning> = {
  Ready: {
    good: "True",
    yes: "All is as it was asked for, and nothing is under way.",
    no: "Something is under way, or not as it was asked for; the others say what.",
  },
  Accepted: {
    good: "True",
    yes: "The ChordRing's spec makes sense, and Kubernetes takes what is made from it.",
    no: "The ChordRing's spec asks for something that cannot be; nothing is changed.",
  },
  Available: {
    good: "True",
    yes: "Every key can be read and written.",
    no: "Some keys may not be read or written, or nobody can see this page.",
  },
  Progressing: {
    good: "False",
    yes: "The operator is changing something, or waits until it can.",
    no: "The operator has nothing to do.",
  },
  Degraded: {
    good: "False",
    yes: "Some keys have fewer copies than they should.",
    no: "No key has too few copies.",
  },
  RingConsistent: {
    good: "True",
    yes: "All members agree on who is in the ring, and form one circle.",
    no: "Members do not agree yet on who is in the ring, or do not form one circle.",
  },
  FullyReplicated: {
    good: "True",
    yes: "Every key has all its copies.",
    no: "Some keys lack a copy, or a member that holds copies is silent.",
  },
  CertificatesReady: {
    good: "True",
    yes: "Members prove to each other who they are, with certificates that are valid.",
    no: "A certificate with which members prove who they are is missing or not valid.",
  },
  Paused: {
    good: "False",
    yes: "Somebody asked the operator to leave the ring as it is (desiredState: Paused).",
    no: "The operator looks after the ring.",
  },
};

const WAIT = "Nothing: wait.";

/** Reason to what it means, and what a person should do. */
const REASONS: Record<string, [means: string, todo: string]> = {
  AsExpected: ["It is as it should be.", "Nothing."],
  WaitingForHealthyRing: [
    "The ring makes itself whole: members learn of each other, and copies are made. The next step waits for that.",
    "Nothing, as long as it goes on. If it lasts, see which member is suspect or silent.",
  ],
  WaitingForGateway: ["No pod of the gateway was ready.", "If it lasts, look at the gateway's pods."],
  MemberJoining: ["A new member takes its place and receives the keys it will hold.", WAIT],
  MemberLeaving: ["A member is asked to leave: it hands its keys over first.", WAIT],
  WaitingForHandoff: ["A member that leaves hands its keys over. It goes only when all of them are safe.", WAIT],
  VerifyingHandoff: [
    "A member has handed over; the operator makes sure, twice, that nobody needs it before its pod goes.",
    WAIT,
  ],
  ScalingStatefulSet: ["Kubernetes is told the new number of pods.", WAIT],
  WaitingForPodDeletion: ["The pod of a member that left is ending.", WAIT],
  PruningStorage: ["The volume of a member that left is being deleted.", WAIT],
  ScaleUpDeferred: [
    "A kept volume of a former member is where a new one would be.",
    "When nobody needs its data, delete the claim that the message names.",
  ],
  LeaveStalled: [
    "A member that should leave does not get rid of its keys.",
    "The message says why, and how to take the leave back.",
  ],
  MemberLost: [
    "A member does not answer, or its data was declared lost.",
    "It comes back by itself with its pod. If the pod cannot start, see why; the message says more.",
  ],
  MemberStarting: ["A pod has started and has not said a word yet.", "If it lasts, look at that pod."],
  PotentialDataLoss: [
    "So many volumes are gone that some keys may have no majority of their copies left. Nothing is changed.",
    "Bring a volume back. Else those keys are lost.",
  ],
  OperatorCannotReachMembers: [
    "Most members do not answer the operator. They may well serve; so nothing is changed.",
    "See whether members run, and whether a NetworkPolicy keeps the operator from them.",
  ],
  InvalidSpec: ["The ChordRing asks for something that cannot be.", "Correct what the message names."],
  CertificatesMissing: ["A certificate is missing or not valid.", "See the Secrets that the message names."],
  Bootstrapping: ["The first member founds the ring.", WAIT],
  Paused: ["The operator leaves the ring as it is.", "Set desiredState to Running when it should go on."],
};

export interface Explained {
  isGood: boolean;
  means: string;
  why: string;
  todo: string;
}

/** One that is newer than this page is shown with the operator's own words alone. */
export function explain(condition: Condition): Explained {
  const known = CONDITIONS[condition.type];
  const [why, todo] = REASONS[condition.reason] ?? ["", ""];
  const isGood = known ? condition.status === known.good : condition.status !== "Unknown";
  const means = condition.status === "Unknown" ? "" : ((condition.status === "True" ? known?.yes : known?.no) ?? "");
  return { isGood, means, why: isGood ? "" : why, todo: isGood ? "" : todo };
}

/** Those that want attention, and the others, each in the operator's order. */
export function parted(conditions: readonly Condition[]): { open: Condition[]; good: Condition[] } {
  const isGood = (condition: Condition) => explain(condition).isGood;
  return { open: conditions.filter((one) => !isGood(one)), good: conditions.filter(isGood) };
}

/** It looks at least this often, ms: silence for longer means that nobody looks after the ring. */
const SILENT_MS = 120_000;

export const isSilent = (saidAt: number, now: number): boolean => now - saidAt > SILENT_MS;
