import { useEffect, useState } from "react";
import type { Id, Lookup, Ring } from "../../api/schema";
import { staleSince } from "../../domain/connection";
import { percent } from "../../domain/format";
import { controlled, hopShownMs, lastStep, type Playback, ticked, whyOf } from "../../domain/lookup";
import type { Ask, Route } from "../../domain/route";
import { useParts, useRing } from "../../store/context";
import { useNow, useReducedMotion } from "../../store/media";
import { go } from "../../store/route";
import { useAnswer } from "../parts/ask";
import { LineSign } from "../parts/line-sign";
import { Notice } from "../parts/notice";
import { inWords } from "../ring/page";
import { Stage } from "../ring/stage";
import { LookupForm } from "./form";
import { Hops, OneHop } from "./hops";
import { LookupOverlay } from "./overlay";
import { Player } from "./player";
import { useProgress } from "./progress";
import { Share } from "./share";

/** Where is this key? Asked of a real member, and walked again slowly enough to be seen. */
export function LookupPage({
  ring,
  route,
  theme,
}: {
  ring: Ring;
  route: Extract<Route, { page: "lookup" }>;
  theme: string;
}) {
  const { connection, history } = useRing();
  const { api } = useParts();
  const now = useNow(1000);
  const still = useReducedMotion();
  const { ask } = route;
  const [from, setFrom] = useState<Id | null>(ask?.from ?? null);
  const [asked, setAsked] = useState(0);
  const [speed, setSpeed] = useState(1);
  const [oneHop, setOneHop] = useState(true);
  const [playback, setPlayback] = useState<Playback>({ step: route.step ?? 0, playing: false });
  const answer = useAnswer(ask && JSON.stringify([ask, asked]), (signal) => {
    const text = ask?.text ?? "";
    return api.lookup(ask?.kind === "id" ? { id: text } : { key: text }, ask?.from ?? null, signal);
  });
  const lookup = answer?.kind === "there" ? answer.value : null;
  const last = lookup ? lastStep(lookup) : 0;
  const step = Math.min(playback.step, last);

  // A link to a step shows that step; else it plays by itself, if that is wanted.
  const [wanted] = useState(route.step);
  const isFirst = asked === 0;
  useEffect(() => {
    if (lookup) {
      const end = lastStep(lookup);
      const begin = isFirst && wanted !== null ? wanted : still ? end : 0;
      setPlayback({ step: Math.min(begin, end), playing: !still && end > 0 && !(isFirst && wanted !== null) });
    }
  }, [lookup, still, wanted, isFirst]);
  useEffect(() => {
    if (!playback.playing) {
      return;
    }
    const timer = setTimeout(() => setPlayback((old) => ticked(old, last)), hopShownMs(speed));
    return () => clearTimeout(timer);
  }, [playback, last, speed]);
  useEffect(() => {
    if (lookup && !playback.playing) {
      go({ page: "lookup", ask, step }, "replace");
    }
  }, [lookup, playback.playing, ask, step]);
  const t = useProgress(`${lookup?.target} ${step} ${asked}`, still || step === 0 ? 0 : hopShownMs(speed) * 0.6);

  const begin = (next: Ask) => {
    setAsked(asked + 1);
    setPlayback({ step: 0, playing: false });
    go({ page: "lookup", ask: next, step: null });
  };
  return (
    <>
      <div className="flex min-h-0 flex-col gap-3 max-lg:h-[min(92vw,70dvh)] max-lg:min-h-80">
        <div className="relative min-h-0 grow">
          <Stage
            ring={ring}
            history={history}
            label={lookup ? `${inWords(ring)} ${said(lookup, step)}` : inWords(ring)}
            theme={theme}
            old={staleSince(connection, now) !== null}
            selected={lookup ? null : from}
            onSelect={(id) => id && setFrom(id)}
            overlay={(view) =>
              lookup && <LookupOverlay lookup={lookup} step={step} t={t} view={view} oneHop={oneHop} />
            }
          />
        </div>
        {lookup && (
          <div className="flex flex-wrap gap-x-5 gap-y-1 text-[0.8125rem] text-soft">
            <LineSign name="hops so far" colour="var(--hop)" width={2.5} />
            <LineSign name="where the key is still sought" colour="var(--hop)" width={7} />
            {oneHop && <LineSign name="in one hop" colour="var(--onehop)" width={2} dash="6 5" />}
            <span>◆ the key’s place</span>
          </div>
        )}
        <Player
          playback={{ ...playback, step }}
          last={last}
          speed={speed}
          onControl={(control) => setPlayback(controlled({ ...playback, step }, control, last))}
          onSpeed={setSpeed}
        />
      </div>
      <aside aria-label="Lookup" className="panel">
        <h2 className="mb-1 text-xl font-semibold tracking-tight">Look up a key</h2>
        <p className="mb-4 text-[0.8125rem] text-soft">
          A member is asked where a key belongs, and the way of the question over the ring is shown as it was really
          walked.
        </p>
        <LookupForm ask={ask} nodes={ring.nodes} from={from} onFrom={setFrom} onAsk={begin} />
        <p aria-live="polite" className="sr-only">
          {lookup && !playback.playing && said(lookup, step)}
        </p>
        <div className="mt-5">
          {!ask && <Notice title="Nothing is asked yet">Give a key, or take a random place on the circle.</Notice>}
          {answer?.kind === "asking" && <Notice title="On its way …" />}
          {answer?.kind === "failed" && (
            <Notice title={answer.error.title} tone="bad">
              <p>{answer.error.detail}</p>
              <button type="button" className="button mt-2" onClick={() => setAsked(asked + 1)}>
                Ask again
              </button>
            </Notice>
          )}
          {lookup && (
            <>
              <Found lookup={lookup} />
              <Hops lookup={lookup} step={step} onStep={(to) => setPlayback(controlled(playback, { to }, last))} />
              <OneHop lookup={lookup} ring={ring} shown={oneHop} onShow={setOneHop} />
              <Share onAgain={() => setAsked(asked + 1)} />
            </>
          )}
        </div>
      </aside>
    </>
  );
}

function Found({ lookup }: { lookup: Lookup }) {
  return (
    <div className="pb-4 text-[0.8125rem]">
      <p>
        {lookup.key === null ? "This place" : <span className="font-medium break-all">“{lookup.key}”</span>} belongs to{" "}
        <span className="font-medium">{lookup.owner.name}</span>.
      </p>
      <p className="mt-1 font-mono text-xs break-all text-soft">{lookup.target}</p>
    </div>
  );
}

function said(lookup: Lookup, step: number): string {
  const hop = lookup.hops[step];
  const left = hop && ` The key is sought in ${percent(hop.interval.share)} of the circle.`;
  return hop ? `Hop ${step} of ${lastStep(lookup)}: ${hop.node.name}, ${whyOf(hop.via)}.${left}` : "";
}
