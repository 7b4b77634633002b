import type { Zooming } from "./zoom";

export function ZoomButtons({ zooming }: { zooming: Zooming }) {
  return (
    <div className="absolute right-3 bottom-3 flex gap-1">
      {zooming.zoom.k > 1 && (
        <button type="button" className="button" onClick={zooming.reset}>
          Whole ring
        </button>
      )}
      <button
        type="button"
        className="button"
        onClick={() => zooming.by(1 / 1.5)}
        disabled={zooming.zoom.k <= 1}
        aria-label="Smaller"
      >
        −
      </button>
      <button type="button" className="button" onClick={() => zooming.by(1.5)} aria-label="Larger">
        +
      </button>
    </div>
  );
}
