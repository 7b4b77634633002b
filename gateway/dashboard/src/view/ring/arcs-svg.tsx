import { memo } from "react";
import type { Id } from "../../api/schema";
import { arcBand, arcLine, inset, place } from "../../domain/geometry";
import { type Flow, flowsOf } from "../../domain/history";
import { claims, type Posed } from "../../domain/motion";
import { arcOf } from "../../domain/ring";
import { turnsOf, type View } from "../../domain/view";
import { outline, SHAPES } from "../parts/marker";

export interface ArcsProps {
  posed: readonly Posed[];
  view: View;
  flowOf: (id: Id) => Flow;
  selected: Id | null;
  hovered: Id | null;
  old: boolean;
}

/** Arcs and signs of up to a few hundred members. */
export const ArcsSvg = memo(function ArcsSvg({ posed, view, flowOf, selected, hovered, old }: ArcsProps) {
  const { radius, band } = view;
  const gap = turnsOf(view, 1.5);
  const tones = new Map(posed.map((seat, at) => [seat.node.id, at]));
  return (
    <g opacity={old ? 0.5 : 1}>
      {[...posed].sort(claims).map((seat) => (
        <path
          key={seat.node.id}
          d={arcBand(inset(arcOf(seat), gap), radius - band / 2, radius + band / 2)}
          {...paint(seat, tones.get(seat.node.id) ?? 0, seat.node.id === selected, seat.node.id === hovered)}
          opacity={seat.presence}
        />
      ))}
      {posed.map((seat) => (
        <FlowLine key={seat.node.id} seat={seat} view={view} flow={flowOf(seat.node.id)} />
      ))}
      {posed.map((seat) => (
        <Marker key={seat.node.id} seat={seat} view={view} selected={seat.node.id === selected} />
      ))}
    </g>
  );
});

/** Neighbours differ in tone, so that each arc is seen as one. */
function paint({ look }: Posed, at: number, selected: boolean, hovered: boolean) {
  const tone = at % 2 === 0 ? "var(--band)" : "var(--band-other)";
  const colour = look === "serving" && !selected ? tone : SHAPES[look].colour;
  return { fill: colour, fillOpacity: selected ? 0.95 : hovered ? 0.85 : look === "serving" ? 1 : 0.4 };
}

function Marker({ seat, view, selected }: { seat: Posed; view: View; selected: boolean }) {
  const { x, y } = place(seat.turn, view.radius);
  const { filled, turned, colour } = SHAPES[seat.look];
  const grown = seat.look === "serving" ? 1 : 1.25;
  const scale = (view.sign / 14) * grown * (selected ? 1.3 : 1) * (0.3 + 0.7 * seat.presence);
  return (
    <path
      d={outline(seat.look, 14)}
      transform={`translate(${x} ${y}) rotate(${turned === null ? 0 : seat.turn * 360 + turned}) scale(${scale})`}
      fill={filled ? colour : "var(--panel)"}
      stroke={filled ? "var(--paper)" : colour}
      strokeWidth={filled ? 2 : 2.5}
      opacity={seat.presence}
      data-node={seat.node.name}
      data-look={seat.look}
    />
  );
}

/** Keys that come walk to the member, keys that go walk away from it; where only shards change hands, dots stand. */
function FlowLine({ seat, view, flow }: { seat: Posed; view: View; flow: Flow }) {
  const lane = view.radius - view.band / 2 - 8;
  const { incoming, outgoing, unclear } = flowsOf(flow, seat.look);
  // A newcomer owns nothing yet; what comes to it is shown on the way to its place.
  const arc = inset(seat.span > 0.004 ? arcOf(seat) : { start: seat.turn - 0.04, span: 0.04 }, turnsOf(view, 6));
  return (
    <>
      {incoming && <path className="flow flow-in" d={arcLine(arc, lane)} />}
      {unclear && <path className="flow" d={arcLine(arc, lane)} />}
      {outgoing && <path className="flow flow-out" d={arcLine(arc, incoming ? lane - 8 : lane)} />}
    </>
  );
}
