import type { Lookup } from "../../api/schema";
import { type Arc, arcBand, onChord, place, shortest } from "../../domain/geometry";
import { turnOfId } from "../../domain/id";
import { arcOfInterval } from "../../domain/lookup";
import { ease } from "../../domain/motion";
import type { View } from "../../domain/view";
import { Chord } from "../ring/chord";

interface Props {
  lookup: Lookup;
  step: number;
  /** Of the way of the newest hop, 0..=1. */
  t: number;
  view: View;
  oneHop: boolean;
}

/** A lookup on the circle: the hops so far, and the arc in which the key is still sought. */
export function LookupOverlay({ lookup, step, t, view, oneHop }: Props) {
  const inner = view.radius - view.band / 2 - 3;
  const outer = view.radius + view.band / 2 + 5;
  const turns = lookup.hops.map((hop) => turnOfId(hop.node.id));
  const moved = ease(t);
  const sought = soughtAt(lookup, step, moved);
  const [from, to] = [turns[step - 1], turns[step]];
  const packet = from !== undefined && to !== undefined && t < 1 ? onChord(from, to, inner, moved) : null;
  const target = turnOfId(lookup.target);
  const leader = lookup.leader && turnOfId(lookup.leader.id);
  return (
    <g data-overlay="lookup">
      <path
        d={arcBand(sought, outer, outer + 7)}
        fill="var(--hop)"
        opacity={0.75}
        data-sought={sought.span.toFixed(4)}
      />
      <path
        d={arcBand(sought, view.radius - view.band / 2, view.radius + view.band / 2)}
        fill="var(--hop)"
        opacity={0.14}
      />
      {oneHop && leader !== null && turns[0] !== undefined && leader !== turns[0] && (
        <Chord from={turns[0]} to={leader} radius={inner * 0.985} colour="var(--onehop)" width={1.75} dash="6 5" />
      )}
      {turns.slice(1, step + 1).map((turn, at) => {
        const begin = turns[at];
        const isNewest = at === step - 1;
        return begin === undefined || (isNewest && t < 1) ? null : (
          <Chord
            key={lookup.hops[at + 1]?.node.id}
            from={begin}
            to={turn}
            radius={inner}
            colour="var(--hop)"
            width={2.5}
          />
        );
      })}
      {from !== undefined && to !== undefined && t < 1 && (
        <Chord from={from} to={to} radius={inner} colour="var(--hop)" width={1.5} opacity={0.4} arrow={false} />
      )}
      {turns.slice(0, t < 1 ? step : step + 1).map((turn, at) => (
        <Visited key={lookup.hops[at]?.node.id} turn={turn} number={at} view={view} newest={at === step && t === 1} />
      ))}
      {packet && <circle cx={packet.x} cy={packet.y} r={6} fill="var(--hop)" stroke="var(--paper)" strokeWidth={2} />}
      <Target turn={target} view={view} />
    </g>
  );
}

/** Between the interval before the newest hop and the one after it. */
function soughtAt(lookup: Lookup, step: number, t: number): Arc {
  const now = lookup.hops[step];
  const before = lookup.hops[step - 1];
  if (!now) {
    return { start: 0, span: 0 };
  }
  const next = arcOfInterval(now.interval);
  if (!before || t >= 1) {
    return next;
  }
  const old = arcOfInterval(before.interval);
  return { start: old.start + shortest(old.start, next.start) * t, span: old.span + (next.span - old.span) * t };
}

function Visited({ turn, number, view, newest }: { turn: number; number: number; view: View; newest: boolean }) {
  const { x, y } = place(turn, view.radius);
  return (
    <g transform={`translate(${x} ${y})`}>
      {newest && <circle r={17} fill="none" stroke="var(--hop)" strokeWidth={2} className="pulse" />}
      <circle r={10} fill="var(--hop)" stroke="var(--paper)" strokeWidth={2} />
      <text textAnchor="middle" dy="0.36em" className="fill-paper text-[11px] font-semibold">
        {number}
      </text>
    </g>
  );
}

/** The place that is looked for. */
function Target({ turn, view }: { turn: number; view: View }) {
  const [from, to] = [place(turn, view.radius - view.band / 2 - 2), place(turn, view.radius + view.band / 2 + 16)];
  return (
    <g>
      <line x1={from.x} y1={from.y} x2={to.x} y2={to.y} stroke="var(--ink)" strokeWidth={2} />
      <path d="M 0 -6 L 6 0 L 0 6 L -6 0 Z" transform={`translate(${to.x} ${to.y})`} fill="var(--ink)" />
    </g>
  );
}
