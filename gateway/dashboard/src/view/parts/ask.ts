import { useEffect, useState } from "react";
import { ApiError } from "../../api/rest";

export type Answer<T> = { kind: "asking" } | { kind: "there"; value: T } | { kind: "failed"; error: ApiError };

/**
 * Asks when `question` changes (`null`: nothing is asked), and gives up an answer that nobody waits for any more. With
 * `keep`, an old answer stands until there is a new one.
 */
export function useAnswer<T>(
  question: string | null,
  ask: (signal: AbortSignal) => Promise<T>,
  keep?: (old: T) => boolean,
): Answer<T> | null {
  const [answer, setAnswer] = useState<Answer<T> | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the functions are made anew each time; `question` says when they differ
  useEffect(() => {
    if (question === null) {
      setAnswer(null);
      return;
    }
    const control = new AbortController();
    setAnswer((old) => (old?.kind === "there" && keep?.(old.value) ? old : { kind: "asking" }));
    ask(control.signal).then(
      (value) => !control.signal.aborted && setAnswer({ kind: "there", value }),
      (error: unknown) => {
        if (!control.signal.aborted) {
          const known = error instanceof ApiError ? error : new ApiError("Unreadable answer", String(error), 0);
          setAnswer({ kind: "failed", error: known });
        }
      },
    );
    return () => control.abort();
  }, [question]);
  return answer;
}
