interface Props {
  name: string;
  colour: string;
  width: number;
  dash?: string;
}

/** What a line in a drawing stands for. */
export function LineSign({ name, colour, width, dash }: Props) {
  return (
    <span className="inline-flex items-center gap-1.5">
      <svg width="22" height="8" aria-hidden="true">
        <line x1="0" x2="22" y1="4" y2="4" stroke={colour} strokeWidth={width} strokeDasharray={dash} />
      </svg>
      {name}
    </span>
  );
}
