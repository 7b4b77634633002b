/** What the visitor's system and the visitor prefer. */
import { useCallback, useEffect, useInsertionEffect, useState, useSyncExternalStore } from "react";

export function useMedia(query: string): boolean {
  const subscribe = useCallback(
    (watcher: () => void) => {
      const media = matchMedia(query);
      media.addEventListener("change", watcher);
      return () => media.removeEventListener("change", watcher);
    },
    [query],
  );
  return useSyncExternalStore(subscribe, () => matchMedia(query).matches);
}

export const useReducedMotion = () => useMedia("(prefers-reduced-motion: reduce)");

export type Theme = "system" | "light" | "dark";
const THEME = "chord-theme";

function stored(): Theme {
  try {
    const theme = localStorage.getItem(THEME);
    return theme === "light" || theme === "dark" ? theme : "system";
  } catch {
    return "system";
  }
}

/** The theme chosen, the one shown, and how to choose another. */
export function useTheme(): { theme: Theme; shown: "light" | "dark"; choose: (theme: Theme) => void } {
  const [theme, setTheme] = useState(stored);
  const systemDark = useMedia("(prefers-color-scheme: dark)");
  const shown = theme === "system" ? (systemDark ? "dark" : "light") : theme;
  // Before anything is laid out: nobody sees the page in the other colours first, nor buttons fade out of them.
  useInsertionEffect(() => {
    document.documentElement.dataset.theme = shown;
  }, [shown]);
  const choose = useCallback((next: Theme) => {
    setTheme(next);
    try {
      localStorage.setItem(THEME, next);
    } catch {
      // Then it is forgotten with the page.
    }
  }, []);
  return { theme, shown, choose };
}

/** The time, anew every `ms`; for what grows older on the screen. */
export function useNow(ms: number): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), ms);
    return () => clearInterval(timer);
  }, [ms]);
  return now;
}
