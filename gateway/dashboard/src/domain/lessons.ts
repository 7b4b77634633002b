/** Prepared lessons for the sandbox: what to do, what to look at, and why it is so. */
import type { Command, Frame } from "../api/sandbox";
import { keysOf } from "./sandbox";

export interface Step {
  /** On the button. */
  action: string;
  commands: (frame: Frame) => Command[];
  /** What is seen then. */
  text: string;
}

export interface Lesson {
  id: string;
  title: string;
  intro: string;
  steps: Step[];
}

const up = (frame: Frame) => frame.nodes.filter((node) => node.up);
/** The newest node; there always is one, since lessons begin with a ring. */
const newest = (frame: Frame) => up(frame).at(-1)?.node ?? 0;
const successorOf = (frame: Frame, node: number) => frame.nodes.find((one) => one.node === node)?.successors[0] ?? node;

const begin = (nodes: number, keys: number): Command[] => [
  { type: "reset", nodes },
  { type: "speed", factor: 1 },
  { type: "fill", keys },
];

/** Keys that are still being written to the world that comes after `world`. */
export interface Owed {
  world: number;
  keys: number;
}

/** What these commands write, given in a world: the next step is about it, so it waits for it. */
export function owedBy(commands: readonly Command[], { world }: Frame): Owed {
  return { world, keys: commands.reduce((sum, command) => sum + (command.type === "fill" ? command.keys : 0), 0) };
}

/** Whether they are there. */
export function isThere({ world, keys }: Owed, frame: Frame): boolean {
  return keys === 0 || (frame.world !== world && keysOf(frame) >= keys);
}

export const LESSONS: Lesson[] = [
  {
    id: "join",
    title: "A join",
    intro:
      "A newcomer has its place on the circle and asks anybody who is in the ring to find the node just before that place. That one adopts it. Then stabilization tells the rest, and the keys of its arc move.",
    steps: [
      {
        action: "Make a ring of 5 with 40 keys",
        commands: () => begin(5, 40),
        text: "Each node owns the arc that ends at it. Choose one to see its successor, its fingers, and who keeps copies of its keys.",
      },
      {
        action: "Slow down, and let a sixth join",
        commands: () => [{ type: "speed", factor: 0.1 }, { type: "add" }],
        text: "Watch the question “join” go from node to node until it reaches the right predecessor. From the moment that one says yes, the newcomer is its successor: it is in the ring already.",
      },
      {
        action: "Let time pass, and watch the keys move",
        commands: () => [{ type: "speed", factor: 1 }],
        text: "Shards whose place lies on the newcomer’s arc get a new set of replicas. They are copied ahead, sealed, finished and installed, one by one; reads and writes go on all the while.",
      },
    ],
  },
  {
    id: "failure",
    title: "A failure",
    intro:
      "A process stops without a word. Its predecessor has a list of several successors, so it knows whom to point to next; and every key has copies on other nodes.",
    steps: [
      {
        action: "Make a ring of 6 with 40 keys",
        commands: () => begin(6, 40),
        text: "Every key is on three nodes. A write counts when two of them have it on disk.",
      },
      {
        action: "Stop one node at once",
        commands: (frame) => [
          { type: "speed", factor: 0.25 },
          { type: "fail", node: up(frame)[1]?.node ?? 0 },
        ],
        text: "Its predecessor’s next question is refused. It drops the first entry of its successor list, and notifies the next one. Other replicas of the lost node’s shards elect a leader among themselves.",
      },
      {
        action: "Read a key while it is down",
        commands: () => [
          { type: "speed", factor: 1 },
          { type: "get", key: "key-7" },
        ],
        text: "Two of three replicas are a majority: nothing acknowledged is lost, and reads are answered.",
      },
      {
        action: "Start it again over its disk",
        commands: (frame) => {
          const down = frame.nodes.find((node) => !node.up);
          return down ? [{ type: "revive", node: down.node }] : [];
        },
        text: "It comes back as the same member, asks for what it missed, and takes its place again.",
      },
    ],
  },
  {
    id: "published-join",
    title: "Why the published join is wrong",
    intro:
      "In the join of the 2001 paper a newcomer only sets its own successor; nobody points to it until it has stabilized. If its successor fails in between, the newcomer hangs on a dead node and never becomes part of the ring. Zave showed this and more in 2012 to 2017. Here the predecessor adopts the newcomer in the same step in which it says yes.",
    steps: [
      {
        action: "Make a ring of 4",
        commands: () => begin(4, 12),
        text: "A small ring, in which one failure at the wrong moment would matter most.",
      },
      {
        action: "Let a fifth join, slowly",
        commands: () => [{ type: "speed", factor: 0.1 }, { type: "add" }],
        text: "Wait until you see “adopted”. It has not stabilized once. By the paper, nobody would point to it now.",
      },
      {
        action: "Stop its successor right now",
        commands: (frame) => [{ type: "fail", node: successorOf(frame, newest(frame)) }],
        text: "The newcomer was given the adopter’s successor list, so it knows whom to turn to; and the adopter points to it. Nothing hangs in the air.",
      },
      {
        action: "Let time pass until the ring is whole",
        commands: () => [{ type: "speed", factor: 1 }],
        text: "Four nodes run, and they are a ring. Stopping its successor first and letting it join afterwards changes nothing about that.",
      },
    ],
  },
  {
    id: "partition",
    title: "A partition that heals",
    intro:
      "The network splits in two, and each side takes the other for dead. Two rings would be a hint gone wrong, no more: data belongs to whoever has the majority of a shard’s replicas, and no shard has two of those.",
    steps: [
      {
        action: "Make a ring of 6 with 30 keys",
        commands: () => begin(6, 30),
        text: "Three copies of each key, spread over neighbours on the circle.",
      },
      {
        action: "Cut two nodes off",
        commands: (frame) => [
          {
            type: "cut",
            nodes: up(frame)
              .slice(0, 2)
              .map((node) => node.node),
          },
        ],
        text: "Nothing passes between the sides. After a while of silence both close their own circle: they are two rings now.",
      },
      {
        action: "Write and read while it lasts",
        commands: () => [
          { type: "put", key: "during", value: "the cut" },
          { type: "get", key: "key-3" },
        ],
        text: "What has a majority on one side is served there. The other side refuses, instead of answering with something old.",
      },
      {
        action: "Heal the network",
        commands: () => [{ type: "heal" }],
        text: "Members remember each other. A probe finds that somebody of the list lives outside of one’s own circle, and stabilization weaves the two rings into one.",
      },
      {
        action: "Read what was written meanwhile",
        commands: () => [{ type: "get", key: "during" }],
        text: "One ring, one truth.",
      },
    ],
  },
  {
    id: "leave",
    title: "A leave with its keys",
    intro:
      "A node that is asked to go drops out of the sets that shards should be on. They move away one by one. Only when it holds nothing any more does it say goodbye to its neighbours.",
    steps: [
      {
        action: "Make a ring of 6 with 50 keys",
        commands: () => begin(6, 50),
        text: "Choose a node and look at how many keys it leads and how many copies it keeps.",
      },
      {
        action: "Ask the newest node to leave",
        commands: (frame) => [
          { type: "speed", factor: 0.5 },
          { type: "leave", node: newest(frame) },
        ],
        text: "Keys flow out of it. It still answers for what it has not handed over yet, so nobody waits.",
      },
      {
        action: "Read every tenth key",
        commands: () => [10, 20, 30, 40, 50].map((number) => ({ type: "get", key: `key-${number}` }) as const),
        text: "All are there. When the last shard is handed over, it tells its two neighbours about each other and is gone.",
      },
    ],
  },
];
