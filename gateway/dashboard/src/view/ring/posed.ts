import { useEffect, useRef, useState } from "react";
import { between, differs, type Posed, still } from "../../domain/motion";
import type { Seat } from "../../domain/ring";

const MS = 700;

/** The ring on its way from one picture to the next. */
export function usePosed(seats: readonly Seat[], animated: boolean): readonly Posed[] {
  const [posed, setPosed] = useState(() => still(seats));
  const shown = useRef(posed);
  const target = useRef(seats);
  const frame = useRef(0);
  useEffect(() => {
    const show = (next: Posed[]) => {
      shown.current = next;
      setPosed(next);
    };
    // Figures change all the time; a way that is gone already to the same places is not begun anew.
    const isUnderWay = frame.current !== 0 && !differs(still(target.current), seats);
    target.current = seats;
    if (isUnderWay) {
      return;
    }
    cancelAnimationFrame(frame.current);
    frame.current = 0;
    if (!animated || !differs(shown.current, seats)) {
      show(still(seats));
      return;
    }
    const from = shown.current;
    let begun: number | null = null;
    const step = (now: number) => {
      begun ??= now;
      const t = Math.min((now - begun) / MS, 1);
      show(between(from, target.current, 1 - (1 - t) ** 3));
      frame.current = t < 1 ? requestAnimationFrame(step) : 0;
    };
    frame.current = requestAnimationFrame(step);
  }, [seats, animated]);
  useEffect(() => () => cancelAnimationFrame(frame.current), []);
  return posed;
}
