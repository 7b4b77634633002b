import { useEffect, useState } from "react";

/** From 0 to 1 in `ms` after `trigger` changed; at once when `ms` is 0. */
export function useProgress(trigger: unknown, ms: number): number {
  const [state, setState] = useState({ trigger, t: 1 });
  useEffect(() => {
    if (ms === 0) {
      setState({ trigger, t: 1 });
      return;
    }
    let begun: number | null = null;
    let frame = requestAnimationFrame(function step(now) {
      begun ??= now;
      const t = Math.min((now - begun) / ms, 1);
      setState({ trigger, t });
      frame = t < 1 ? requestAnimationFrame(step) : 0;
    });
    return () => cancelAnimationFrame(frame);
  }, [trigger, ms]);
  return state.trigger === trigger ? state.t : ms === 0 ? 1 : 0;
}
