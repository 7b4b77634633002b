import { type SymbolType, symbol, symbolCircle, symbolDiamond, symbolSquare, symbolTimes } from "d3-shape";
import type { ReactNode } from "react";
import { LOOKS, type Look } from "../../domain/ring";

/** An arrowhead: it has a direction, which a triangle of equal sides has not. */
const wedge: SymbolType = {
  draw(context, size) {
    const unit = Math.sqrt(size);
    context.moveTo(0, -unit * 0.85);
    context.lineTo(unit * 0.62, unit * 0.6);
    context.lineTo(-unit * 0.62, unit * 0.6);
    context.closePath();
  },
};

/** Shape of a state. Whether it is filled tells as much as its outline, for those who see no colours. */
interface Shape {
  type: SymbolType;
  filled: boolean;
  /** Degrees. Arrowheads point into the circle or out of it, the rest stands upright wherever it is. */
  turned: number | null;
  colour: string;
}

export const SHAPES: Record<Look, Shape> = {
  serving: { type: symbolCircle, filled: true, turned: null, colour: "var(--serving)" },
  joining: { type: wedge, filled: false, turned: 180, colour: "var(--joining)" },
  leaving: { type: wedge, filled: false, turned: 0, colour: "var(--leaving)" },
  suspect: { type: symbolDiamond, filled: true, turned: null, colour: "var(--suspect)" },
  lost: { type: symbolTimes, filled: false, turned: null, colour: "var(--lost)" },
  unheard: { type: symbolCircle, filled: false, turned: null, colour: "var(--unheard)" },
  waiting: { type: symbolSquare, filled: false, turned: null, colour: "var(--waiting)" },
};

const paths = new Map<string, string>();

/** Outline of a state's shape around (0, 0), about `size` pixels wide. */
export function outline(look: Look, size: number): string {
  const name = `${look} ${size}`;
  let path = paths.get(name);
  if (path === undefined) {
    const area = look === "lost" ? size * size * 0.9 : size * size * (Math.PI / 4);
    path = symbol(SHAPES[look].type, area)() ?? "";
    paths.set(name, path);
  }
  return path;
}

/** Text colours of states. */
export const TEXT: Record<Look, string> = {
  serving: "text-serving",
  joining: "text-joining",
  leaving: "text-leaving",
  suspect: "text-suspect",
  lost: "text-lost",
  unheard: "text-unheard",
  waiting: "text-waiting",
};

/** A state's sign in running text. */
export function Sign({ look, size = 12 }: { look: Look; size?: number }) {
  const { filled, turned, colour } = SHAPES[look];
  return (
    <svg width={size + 4} height={size + 4} viewBox="-9 -9 18 18" aria-hidden="true" className="shrink-0">
      <path
        d={outline(look, 11)}
        transform={`rotate(${turned ?? 0})`}
        fill={filled ? colour : "var(--panel)"}
        stroke={colour}
        strokeWidth={2.25}
        strokeLinejoin="round"
      />
    </svg>
  );
}

export function StateName({ look, children }: { look: Look; children?: ReactNode }) {
  return (
    <span className={`inline-flex items-center gap-1 align-middle ${TEXT[look]}`}>
      <Sign look={look} />
      <span>{LOOKS[look].label}</span>
      {children}
    </span>
  );
}
