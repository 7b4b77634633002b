import { type Control, type Playback, SPEEDS } from "../../domain/lookup";

interface Props {
  playback: Playback;
  last: number;
  speed: number;
  onControl: (control: Control) => void;
  onSpeed: (speed: number) => void;
}

export function Player({ playback, last, speed, onControl, onSpeed }: Props) {
  const { step, playing } = playback;
  return (
    <fieldset aria-label="Playback" className="flex flex-wrap items-center gap-1.5">
      <button
        type="button"
        className="button"
        onClick={() => onControl("first")}
        disabled={step === 0}
        aria-label="To the start"
      >
        <Glyph d="M3 3v10M13 3 6 8l7 5z" />
      </button>
      <button
        type="button"
        className="button"
        onClick={() => onControl("back")}
        disabled={step === 0}
        aria-label="One hop back"
      >
        <Glyph d="M11 3 4 8l7 5z" />
      </button>
      <button
        type="button"
        className="button button-strong"
        onClick={() => onControl(playing ? "pause" : "play")}
        disabled={last === 0}
        aria-label={playing ? "Pause" : "Play"}
      >
        <Glyph d={playing ? "M4 3h3v10H4zM9 3h3v10H9z" : "M5 3l8 5-8 5z"} />
      </button>
      <button
        type="button"
        className="button"
        onClick={() => onControl("forward")}
        disabled={step >= last}
        aria-label="One hop on"
      >
        <Glyph d="M5 3l7 5-7 5z" />
      </button>
      <button
        type="button"
        className="button"
        onClick={() => onControl("last")}
        disabled={step >= last}
        aria-label="To the end"
      >
        <Glyph d="M13 3v10M3 3l7 5-7 5z" />
      </button>
      <input
        type="range"
        min={0}
        max={last}
        value={step}
        onChange={(event) => onControl({ to: Number(event.target.value) })}
        disabled={last === 0}
        aria-label="Hop"
        aria-valuetext={`hop ${step} of ${last}`}
        className="min-w-16 grow accent-hop"
      />
      <select
        className="button"
        value={speed}
        onChange={(event) => onSpeed(Number(event.target.value))}
        aria-label="Speed"
      >
        {SPEEDS.map((value) => (
          <option key={value} value={value}>
            {value} ×
          </option>
        ))}
      </select>
    </fieldset>
  );
}

function Glyph({ d }: { d: string }) {
  return (
    <svg width="14" height="14" viewBox="0 0 16 16" aria-hidden="true">
      <path d={d} fill="currentColor" stroke="currentColor" strokeWidth="1.5" strokeLinejoin="round" />
    </svg>
  );
}
