import { memo } from "react";
import type { Id } from "../../api/schema";
import { place } from "../../domain/geometry";
import type { Posed } from "../../domain/motion";
import { LABEL_GAP, type View } from "../../domain/view";

const TICKS = 64;

/** The circle's scale: where identifiers begin with 0, 1, … f. */
export const Dial = memo(function Dial({ radius, band }: { radius: number; band: number }) {
  const inner = radius - band / 2 - 18;
  return (
    <g>
      {Array.from({ length: TICKS }, (_, tick) => {
        const isDigit = tick % 4 === 0;
        const [from, to] = [place(tick / TICKS, inner), place(tick / TICKS, inner - (isDigit ? 7 : 4))];
        const key = `t${tick}`;
        return (
          <line
            key={key}
            x1={from.x}
            y1={from.y}
            x2={to.x}
            y2={to.y}
            stroke={isDigit ? "var(--strong)" : "var(--line)"}
          />
        );
      })}
      {radius > 130 &&
        Array.from({ length: 16 }, (_, digit) => {
          const { x, y } = place(digit / 16, inner - 17);
          const text = digit.toString(16);
          return (
            <text key={text} x={x} y={y} dy="0.35em" textAnchor="middle" className="fill-faint font-mono text-[11px]">
              {text}
            </text>
          );
        })}
    </g>
  );
});

interface LabelsProps {
  posed: readonly Posed[];
  view: View;
  short: ReadonlyMap<string, string>;
  selected: Id | null;
}

/** Members' names around the circle. */
export function Labels({ posed, view, short, selected }: LabelsProps) {
  if (view.labels === "none") {
    return null;
  }
  return (
    <g>
      {posed.map(({ node, turn, presence }) => {
        const { x, y } = place(turn, view.radius + LABEL_GAP);
        const side = Math.abs(x) < view.radius * 0.08 ? "middle" : x > 0 ? "start" : "end";
        const isSelected = node.id === selected;
        return (
          <text
            key={node.id}
            x={x}
            y={y}
            dy="0.35em"
            textAnchor={side}
            opacity={presence}
            className={`text-[13px] ${isSelected ? "fill-ink font-semibold" : "fill-soft"}`}
          >
            {view.labels === "full" ? node.name : (short.get(node.name) ?? node.name)}
          </text>
        );
      })}
    </g>
  );
}
