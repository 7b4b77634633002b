import { chord, onChord } from "../../domain/geometry";

interface Props {
  /** Turns. */
  from: number;
  to: number;
  radius: number;
  colour: string;
  width?: number;
  dash?: string;
  opacity?: number;
  arrow?: boolean;
  className?: string;
}

/** A line from one place on the circle to another, with an arrow at its end. */
export function Chord({ from, to, radius, colour, width = 1.5, dash, opacity = 1, arrow = true, className }: Props) {
  const tip = onChord(from, to, radius, 1);
  const size = 4 + width * 1.6;
  return (
    <g opacity={opacity} className={className}>
      <path d={chord(from, to, radius)} fill="none" stroke={colour} strokeWidth={width} strokeDasharray={dash} />
      {arrow && (
        <path
          d={`M 0 0 L ${-size} ${size * 0.45} L ${-size} ${-size * 0.45} Z`}
          transform={`translate(${tip.x} ${tip.y}) rotate(${(tip.heading * 180) / Math.PI})`}
          fill={colour}
        />
      )}
    </g>
  );
}
