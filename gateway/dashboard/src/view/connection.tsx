import { type Connection, staleSince } from "../domain/connection";
import { clock, span } from "../domain/format";
import { useNow } from "../store/media";

/** Whether what is seen is what is. */
export function ConnectionState({ connection }: { connection: Connection }) {
  const now = useNow(1000);
  const since = staleSince(connection, now);
  const [text, tone] = words(connection, since, now);
  return (
    <p
      role="status"
      data-connection={since === null ? connection.kind : "stale"}
      className={`flex items-center gap-2 text-[0.8125rem] whitespace-nowrap ${tone}`}
    >
      <span
        aria-hidden="true"
        className={
          connection.kind === "live" ? "size-2 rounded-full bg-serving" : "size-2 rounded-full border-2 border-current"
        }
      />
      {text}
    </p>
  );
}

function words(connection: Connection, since: number | null, now: number): [string, string] {
  switch (connection.kind) {
    case "connecting":
      return ["Connecting", "text-soft"];
    case "live":
      return ["Live", "text-serving"];
    case "reconnecting":
      return since === null
        ? ["Reconnecting", "text-leaving"]
        : [`Stale since ${clock(since)}, ${span(now - since)}`, "text-suspect"];
  }
}

/** Over everything, while the gateway is not reached: what is seen is old, and what happens next. */
export function StaleBanner({ connection }: { connection: Connection }) {
  const now = useNow(1000);
  const since = staleSince(connection, now);
  if (connection.kind !== "reconnecting" || since === null) {
    return null;
  }
  const wait = Math.max(0, connection.retryAt - now);
  return (
    <div role="alert" className="border-b border-suspect bg-panel px-4 py-2 text-[0.8125rem] text-suspect lg:px-6">
      The gateway is not reached. What you see is as of {clock(since)}.{" "}
      {wait < 1000 ? "Trying again." : `Next try in ${span(wait)}.`}
    </div>
  );
}
