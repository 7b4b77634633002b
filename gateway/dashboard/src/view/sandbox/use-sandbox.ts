import { useCallback, useEffect, useRef, useState } from "react";
import { type Command, type Frame, type LineState, type LogEntry, SandboxLine } from "../../api/sandbox";
import type { Ring } from "../../api/schema";
import { History } from "../../domain/history";
import { logged, ringOfFrame } from "../../domain/sandbox";

export interface Seen {
  frame: Frame;
  ring: Ring;
  history: History;
  log: readonly LogEntry[];
  /** `performance.now()` when the frame came. */
  at: number;
}

/** A world of one's own, for as long as the view is open. */
export function useSandbox(): {
  state: LineState;
  seen: Seen | null;
  send: (command: Command) => void;
  again: () => void;
} {
  const [state, setState] = useState<LineState>({ kind: "opening" });
  const [seen, setSeen] = useState<Seen | null>(null);
  const [run, setRun] = useState(0);
  const line = useRef<SandboxLine | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another `run` is another world
  useEffect(() => {
    setSeen(null);
    const own = new SandboxLine(new URL("api/v1/sandbox", document.baseURI).href, {
      state: setState,
      frame: (frame) => setSeen((before) => next(before, frame)),
    });
    line.current = own;
    return () => own.end();
  }, [run]);
  const send = useCallback((command: Command) => line.current?.send(command), []);
  return { state, seen, send, again: () => setRun(run + 1) };
}

function next(before: Seen | null, frame: Frame): Seen {
  const ring = ringOfFrame(frame);
  const isOther = before?.frame.world !== frame.world;
  const history = before && !isOther ? before.history : new History();
  history.take(ring);
  const log = logged(before && !isOther ? before.log : [], frame.log, frame.speed < 0.5);
  return { frame, ring, history, log, at: performance.now() };
}
