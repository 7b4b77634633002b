import { type ReactNode, useLayoutEffect, useRef, useState } from "react";

interface Props<T> {
  items: readonly T[];
  keyOf: (item: T) => string;
  row: (item: T) => ReactNode;
  /** Pixels of a row; all have the same. */
  height: number;
  label: string;
}

/** Rows drawn before and after those that are seen. */
const AROUND = 12;
/** Up to here everything is drawn: nothing is gained by less. */
const WHOLE_MAX = 120;

/** A list of any length of which only what is seen is drawn; it scrolls with whatever scrolls around it. */
export function Windowed<T>({ items, keyOf, row, height, label }: Props<T>) {
  const list = useRef<HTMLUListElement>(null);
  const [seen, setSeen] = useState({ from: 0, to: WHOLE_MAX });
  const whole = items.length <= WHOLE_MAX;
  useLayoutEffect(() => {
    if (whole) {
      return;
    }
    const look = () => {
      const top = list.current?.getBoundingClientRect().top ?? 0;
      const from = Math.max(0, Math.floor(-top / height) - AROUND);
      setSeen({ from, to: from + Math.ceil(innerHeight / height) + 2 * AROUND });
    };
    look();
    document.addEventListener("scroll", look, { capture: true, passive: true });
    addEventListener("resize", look);
    return () => {
      document.removeEventListener("scroll", look, { capture: true });
      removeEventListener("resize", look);
    };
  }, [whole, height]);
  const from = whole ? 0 : Math.min(seen.from, Math.max(items.length - 1, 0));
  const shown = whole ? items : items.slice(from, seen.to);
  return (
    <ul
      ref={list}
      aria-label={label}
      style={whole ? undefined : { height: items.length * height, position: "relative" }}
    >
      {shown.map((item, at) => (
        <li
          key={keyOf(item)}
          aria-setsize={items.length}
          aria-posinset={from + at + 1}
          style={whole ? { height } : { height, position: "absolute", top: (from + at) * height, left: 0, right: 0 }}
        >
          {row(item)}
        </li>
      ))}
    </ul>
  );
}
