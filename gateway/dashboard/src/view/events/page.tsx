import { useState } from "react";
import type { Id, Node, Ring, RingEvent } from "../../api/schema";
import { KNOWN_KINDS, kindOf, type Tone } from "../../domain/events";
import { clock, plural, span } from "../../domain/format";
import { useRing } from "../../store/context";
import { MemberLink } from "../node/panel";
import { Notice } from "../parts/notice";
import { OperatorPanel } from "./operator";
import { Strip } from "./strip";

export const TONES: Record<Tone, { text: string; colour: string }> = {
  good: { text: "text-serving", colour: "var(--serving)" },
  change: { text: "text-joining", colour: "var(--joining)" },
  warning: { text: "text-suspect", colour: "var(--suspect)" },
  quiet: { text: "text-soft", colour: "var(--strong)" },
};

/** Rows shown; older ones on demand. */
const PAGE = 100;

/** Its sentence, with the member it is about as a link. */
function Message({ event: { subject, message }, byId }: { event: RingEvent; byId: ReadonlyMap<Id, Node> }) {
  const [before, after] = subject ? split(message, subject.name) : [message, null];
  return (
    <>
      {before}
      {subject && <MemberLink id={subject.id} byId={byId} name={subject.name} />}
      {after}
    </>
  );
}

/** Around the name; a sentence without it has it put in front. */
function split(message: string, name: string): [string, string] {
  const at = message.indexOf(name);
  return at < 0 ? ["", ` ${message}`] : [message.slice(0, at), message.slice(at + name.length)];
}

/** What happened, newest first. */
export function EventsPage({ ring }: { ring: Ring }) {
  const { events, byId } = useRing();
  const [kind, setKind] = useState("");
  const [member, setMember] = useState("");
  const [rows, setRows] = useState(PAGE);
  const kinds = [...new Set(events.map((event) => event.kind))].sort();
  const chosen = events.filter(
    (event) =>
      (kind === "" || event.kind === kind) &&
      (member === "" || event.subject?.name === member || event.reporter?.name === member),
  );
  const members = [...new Set(events.flatMap((event) => (event.subject ? [event.subject.name] : [])))].sort();
  return (
    <div className="col-span-full mx-auto flex min-h-0 w-full max-w-6xl flex-col gap-4">
      <OperatorPanel operator={ring.operator} now={ring.generatedAt} />
      <div className="flex flex-wrap items-end gap-3">
        <h2 className="mr-auto text-xl font-semibold tracking-tight">Events</h2>
        <label className="label">
          Kind
          <select
            className="field mt-1 block text-[0.8125rem]"
            value={kind}
            onChange={(event) => setKind(event.target.value)}
          >
            <option value="">all</option>
            {kinds.map((name) => (
              <option key={name} value={name}>
                {kindOf({ kind: name }).label}
              </option>
            ))}
          </select>
        </label>
        <label className="label">
          Member
          <select
            className="field mt-1 block text-[0.8125rem]"
            value={member}
            onChange={(event) => setMember(event.target.value)}
          >
            <option value="">all</option>
            {members.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
      </div>
      <Strip events={chosen} now={ring.generatedAt} />
      <section aria-label="Events, newest first" className="panel min-h-0">
        {chosen.length === 0 && (
          <Notice
            title={events.length === 0 ? "Nothing has happened since the gateway started" : "No such event is kept"}
          >
            Joins, leaves, faults and changes of leaders are listed here as members report them.
          </Notice>
        )}
        <ol>
          {chosen
            .slice(-rows)
            .reverse()
            .map((event) => (
              <li
                key={event.number}
                className="grid grid-cols-[4.5rem_6.5rem_minmax(0,1fr)] gap-x-3 border-t border-line py-2 text-[0.8125rem] first:border-t-0"
              >
                <time
                  dateTime={new Date(event.at).toISOString()}
                  title={`${span(ring.generatedAt - event.at)} ago`}
                  className="text-faint"
                >
                  {clock(event.at)}
                </time>
                <span className={`${TONES[kindOf(event).tone].text} font-medium`}>{kindOf(event).label}</span>
                <span className="min-w-0 break-words">
                  <Message event={event} byId={byId} />
                  {event.shard !== null && <span className="text-soft"> (shard {event.shard})</span>}
                  {event.reporter && event.reporter.id !== event.subject?.id && (
                    <span className="text-faint"> as {event.reporter.name} reports</span>
                  )}
                </span>
              </li>
            ))}
        </ol>
        {chosen.length > rows && (
          <button type="button" className="button mt-3" onClick={() => setRows(rows + PAGE)}>
            Older ones ({plural(chosen.length - rows, "event")})
          </button>
        )}
        <details className="mt-4 border-t border-line pt-3 text-[0.8125rem]">
          <summary className="text-soft">What the kinds mean</summary>
          <dl className="mt-2 grid gap-x-4 gap-y-1 sm:grid-cols-[8rem_minmax(0,1fr)]">
            {KNOWN_KINDS.map((name) => {
              const { label, tone, meaning } = kindOf({ kind: name });
              return (
                <div key={name} className="contents">
                  <dt className={TONES[tone].text}>{label}</dt>
                  <dd className="text-soft">{meaning}</dd>
                </div>
              );
            })}
          </dl>
        </details>
      </section>
    </div>
  );
}
