import { type KeyboardEvent, type MouseEvent, type ReactNode, useCallback, useMemo, useRef, useState } from "react";
import type { Id, Ring } from "../../api/schema";
import type { History } from "../../domain/history";
import type { Posed } from "../../domain/motion";
import { neighbour, type Seat, seatAt, seatsOf, shortNames } from "../../domain/ring";
import { turnNear, turnsOf, type View, viewOf } from "../../domain/view";
import { useReducedMotion } from "../../store/media";
import { ArcsCanvas } from "./arcs-canvas";
import { ArcsSvg } from "./arcs-svg";
import { Dial, Labels } from "./dial";
import { Hint } from "./hint";
import { usePosed } from "./posed";
import { useSize } from "./size";
import { useZoom } from "./zoom";
import { ZoomButtons } from "./zoom-buttons";

/** More members than this are painted, not laid out. */
const SVG_MAX = 200;

interface Props {
  ring: Ring;
  history: History;
  /** What it shows, in words. */
  label: string;
  theme: string;
  /** The line to the gateway is broken. */
  old: boolean;
  selected: Id | null;
  onSelect: (id: Id | null) => void;
  /** Drawn over the arcs, around the centre. */
  overlay: (view: View, posed: readonly Posed[]) => ReactNode;
}

/** The circle, with all that can be done to look at it. */
export function Stage({ ring, history, label, theme, old, selected, onSelect, overlay }: Props) {
  const element = useRef<HTMLDivElement>(null);
  const size = useSize(element);
  const zooming = useZoom(element, Math.max(8, ring.nodes.length / 12));
  const animated = !useReducedMotion();
  const seats = useMemo(() => seatsOf(ring.nodes), [ring.nodes]);
  const posed = usePosed(seats, animated);
  const short = useMemo(() => shortNames(ring.nodes.map((node) => node.name)), [ring.nodes]);
  const [hovered, setHovered] = useState<{ seat: Seat; x: number; y: number } | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: flows change with what the history took in, once per picture
  const flowOf = useCallback((id: Id) => history.flow(id), [history, ring]);
  const view = useMemo(() => {
    const longest = (names: Iterable<string>) => Math.max(0, ...Array.from(names, (name) => name.length));
    const names = { count: ring.nodes.length, full: longest(short.keys()), short: longest(short.values()) };
    return size && viewOf(size, zooming.zoom, names);
  }, [size, zooming.zoom, ring.nodes.length, short]);

  const seatUnder = (event: MouseEvent): Seat | null => {
    const box = element.current?.getBoundingClientRect();
    const turn = box && view && turnNear(view, { x: event.clientX - box.left, y: event.clientY - box.top });
    return turn === null || turn === undefined || !view ? null : seatAt(seats, turn, turnsOf(view, 9));
  };
  const hover = (event: MouseEvent) => {
    const seat = seatUnder(event);
    const box = element.current?.getBoundingClientRect();
    setHovered(seat && box ? { seat, x: event.clientX - box.left, y: event.clientY - box.top } : null);
  };
  const press = (event: KeyboardEvent) => {
    const step = ({ ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 } as const)[event.key];
    if (step) {
      event.preventDefault();
      onSelect(neighbour(ring.nodes, selected, step));
    } else if (event.key === "Escape") {
      onSelect(null);
    }
  };
  const arcs = view && { posed, view, flowOf, selected, hovered: hovered?.seat.node.id ?? null, old };
  return (
    <div className="relative size-full">
      {/* biome-ignore lint/a11y/useSemanticElements: a picture that is also walked through with the arrow keys */}
      <div
        ref={element}
        role="group"
        aria-label={`${label} Arrow keys choose a member.`}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it takes the arrow keys
        tabIndex={0}
        onKeyDown={press}
        onClick={(event) => onSelect(seatUnder(event)?.node.id ?? null)}
        onMouseMove={hover}
        onMouseLeave={() => setHovered(null)}
        className={`absolute inset-0 touch-pan-y overflow-hidden rounded-lg ${hovered ? "cursor-pointer" : ""}`}
      >
        {size && arcs && view && (
          <div aria-hidden="true">
            {ring.nodes.length > SVG_MAX && <ArcsCanvas {...arcs} size={size} animated={animated} theme={theme} />}
            <svg aria-hidden="true" width={size.width} height={size.height} className="absolute inset-0 select-none">
              <g transform={`translate(${view.centre.x} ${view.centre.y})`}>
                <Dial radius={view.radius} band={view.band} />
                {ring.nodes.length <= SVG_MAX && <ArcsSvg {...arcs} />}
                <Labels posed={posed} view={view} short={short} selected={selected} />
                {overlay(view, posed)}
              </g>
            </svg>
          </div>
        )}
      </div>
      {hovered && <Hint seat={hovered.seat} x={hovered.x} y={hovered.y} flow={history.flow(hovered.seat.node.id)} />}
      <ZoomButtons zooming={zooming} />
    </div>
  );
}
