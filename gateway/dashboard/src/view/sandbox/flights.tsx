import { useEffect, useState } from "react";
import { onChord, place } from "../../domain/geometry";
import { turnOfId } from "../../domain/id";
import { flown, seenFlights } from "../../domain/sandbox";
import type { View } from "../../domain/view";
import { Chord } from "../ring/chord";
import type { Seen } from "./use-sandbox";

const COLOURS: Record<string, string> = {
  join: "var(--joining)",
  adopted: "var(--joining)",
  "not mine": "var(--joining)",
  notify: "var(--onehop)",
  stabilize: "var(--faint)",
  leave: "var(--leaving)",
  lookup: "var(--hop)",
  transfer: "var(--hop)",
  seal: "var(--hop)",
  write: "var(--serving)",
};

/** Simulated time now: pictures come ten times a second, and time goes on between them. */
function useSimulatedNow(seen: Seen): number {
  const [, redraw] = useState(0);
  const moves = seen.frame.speed > 0 && seen.frame.flights.length > 0;
  useEffect(() => {
    if (!moves) {
      return;
    }
    let frame = requestAnimationFrame(function step(now) {
      redraw(now);
      frame = requestAnimationFrame(step);
    });
    return () => cancelAnimationFrame(frame);
  }, [moves]);
  // No further than to the next picture, lest messages jump back.
  const since = Math.min(performance.now() - seen.at, 150);
  return seen.frame.nowMs + since * seen.frame.speed;
}

/** Messages on their way, and what was said last. */
export function Flights({ seen, view, still }: { seen: Seen; view: View; still: boolean }) {
  const now = useSimulatedNow(seen);
  const turns = new Map(seen.frame.nodes.map((node) => [node.node, turnOfId(node.id)]));
  const inner = view.radius - view.band / 2 - 3;
  const last = seen.frame.speed === 0 ? seen.log.at(-1) : undefined;
  const [from, to] = [turns.get(last?.node ?? -1), turns.get(last?.to ?? -1)];
  return (
    <g data-overlay="sandbox">
      {seen.frame.cut.map((node) => {
        const turn = turns.get(node);
        const at = turn === undefined ? null : place(turn, view.radius);
        return (
          at && (
            <circle
              key={node}
              cx={at.x}
              cy={at.y}
              r={17}
              fill="none"
              stroke="var(--suspect)"
              strokeWidth={2}
              strokeDasharray="4 4"
            />
          )
        );
      })}
      {last && from !== undefined && to !== undefined && from !== to && (
        <Chord from={from} to={to} radius={inner} colour={COLOURS[last.title] ?? "var(--ink)"} width={2.5} />
      )}
      {!still &&
        [...seenFlights(seen.frame.flights)].map(([key, flight]) => {
          const [begin, end] = [turns.get(flight.from), turns.get(flight.to)];
          if (begin === undefined || end === undefined) {
            return null;
          }
          const { x, y } = onChord(begin, end, inner, flown(flight, now));
          const colour = COLOURS[flight.title] ?? "var(--soft)";
          return (
            <circle
              key={key}
              cx={x}
              cy={y}
              r={flight.title === "stabilize" ? 3 : 5}
              fill={colour}
              data-flight={flight.title}
            />
          );
        })}
    </g>
  );
}
