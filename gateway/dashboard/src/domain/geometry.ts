/**
 * From turns to places in the drawing. Turn 0 is at the top and turns grow clockwise; the centre is (0, 0) and y
 * grows downwards, as on screens.
 */
export interface Point {
  x: number;
  y: number;
}

/** An arc clockwise from `start` over `span` turns, 0..=1. */
export interface Arc {
  start: number;
  span: number;
}

const TURN = 2 * Math.PI;

/** Into 0..1. */
export function wrap(turn: number): number {
  const part = turn - Math.floor(turn);
  return part === 1 ? 0 : part;
}

/** Radians as `CanvasRenderingContext2D.arc` counts them: clockwise from the right. */
export function radians(turn: number): number {
  return turn * TURN - Math.PI / 2;
}

export function place(turn: number, radius: number): Point {
  const angle = radians(turn);
  return { x: radius * Math.cos(angle), y: radius * Math.sin(angle) };
}

/** The turn at which a point is seen from the centre. */
export function turnAt({ x, y }: Point): number {
  return wrap((Math.atan2(y, x) + Math.PI / 2) / TURN);
}

/** The shorter way round, -0.5 (exclusive) to 0.5 (inclusive). */
export function shortest(from: number, to: number): number {
  const ahead = wrap(to - from);
  return ahead > 0.5 ? ahead - 1 : ahead;
}

/** Whether an arc holds a turn; its start is outside and its end inside, as with Chord's ranges. */
export function holds(arc: Arc, turn: number): boolean {
  const from = wrap(turn - arc.start);
  return arc.span >= 1 || (from === 0 ? false : from <= arc.span);
}

/** Cuts `gap` turns off both ends, and never more than a third of what there is. */
export function inset(arc: Arc, gap: number): Arc {
  if (arc.span >= 1) {
    return arc;
  }
  const cut = Math.min(gap, arc.span / 3);
  return { start: arc.start + cut, span: arc.span - 2 * cut };
}

const number = (value: number) => String(Math.round(value * 100) / 100);
const at = ({ x, y }: Point) => `${number(x)} ${number(y)}`;

/** A line along the circle, as a path. SVG cannot draw a whole circle as one arc, so it comes as two. */
export function arcLine(arc: Arc, radius: number): string {
  const span = Math.min(Math.max(arc.span, 0), 1);
  if (span === 0) {
    return "";
  }
  const r = number(radius);
  const middle = `A ${r} ${r} 0 0 1 ${at(place(arc.start + span / 2, radius))}`;
  const end = `A ${r} ${r} 0 0 1 ${at(place(arc.start + span, radius))}`;
  return `M ${at(place(arc.start, radius))} ${middle} ${end}`;
}

/** A band along the circle, as a closed path. */
export function arcBand(arc: Arc, inner: number, outer: number): string {
  const span = Math.min(Math.max(arc.span, 0), 1);
  if (span === 0) {
    return "";
  }
  const [middle, end] = [arc.start + span / 2, arc.start + span];
  const along = (radius: number, turns: number[], sweep: 0 | 1) =>
    turns.map((turn) => `A ${number(radius)} ${number(radius)} 0 0 ${sweep} ${at(place(turn, radius))}`).join(" ");
  const out = `M ${at(place(arc.start, outer))} ${along(outer, [middle, end], 1)}`;
  const back = `${span === 1 ? "M" : "L"} ${at(place(end, inner))} ${along(inner, [middle, arc.start], 0)} Z`;
  return `${out}${span === 1 ? " Z" : ""} ${back}`;
}

/** Where a chord between two places on the circle bends: towards the centre, the more the farther they are apart. */
export function bend(from: number, to: number, radius: number): Point {
  const way = shortest(from, to);
  return place(from + way / 2, radius * (1 - 1.6 * Math.abs(way)) * 0.86);
}

/** A chord as a path; `from` and `to` are turns. */
export function chord(from: number, to: number, radius: number): string {
  const control = bend(from, to, radius);
  return `M ${at(place(from, radius))} Q ${at(control)} ${at(place(to, radius))}`;
}

/** A point on that chord, `t` from 0 to 1, and where it heads (radians). */
export function onChord(from: number, to: number, radius: number, t: number): Point & { heading: number } {
  const [a, b, c] = [place(from, radius), bend(from, to, radius), place(to, radius)];
  const mix = (p: number, q: number, r: number) => (1 - t) ** 2 * p + 2 * (1 - t) * t * q + t ** 2 * r;
  const slope = (p: number, q: number, r: number) => (1 - t) * (q - p) + t * (r - q);
  const heading = Math.atan2(slope(a.y, b.y, c.y), slope(a.x, b.x, c.x));
  return { x: mix(a.x, b.x, c.x), y: mix(a.y, b.y, c.y), heading };
}
