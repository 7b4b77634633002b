import { useState } from "react";
import type { Command, Frame } from "../../api/sandbox";
import { isThere, LESSONS, type Owed, owedBy } from "../../domain/lessons";
import { Section } from "../parts/figure";

/** Prepared experiments, a step at a time. */
export function Lessons({ frame, send }: { frame: Frame; send: (command: Command) => void }) {
  const [chosen, setChosen] = useState("");
  const [done, setDone] = useState(0);
  const [owed, setOwed] = useState<Owed | null>(null);
  const lesson = LESSONS.find((one) => one.id === chosen);
  const next = lesson?.steps[done];
  const waits = done > 0 && owed !== null && !isThere(owed, frame);
  return (
    <Section title="Lessons">
      <label className="label" htmlFor="lesson">
        What would you like to see?
      </label>
      <select
        id="lesson"
        className="field mt-1"
        value={chosen}
        onChange={(event) => {
          setChosen(event.target.value);
          setDone(0);
        }}
      >
        <option value="">try things freely</option>
        {LESSONS.map(({ id, title }) => (
          <option key={id} value={id}>
            {title}
          </option>
        ))}
      </select>
      {lesson && (
        <div className="mt-3 space-y-3 text-[0.8125rem]">
          <p className="text-soft">{lesson.intro}</p>
          <ol className="space-y-2">
            {lesson.steps.slice(0, done).map((step, at) => (
              <li key={step.action} className={at === done - 1 ? "" : "text-soft"}>
                <span className="font-medium">
                  {at + 1}. {step.action}.
                </span>{" "}
                {step.text}
              </li>
            ))}
          </ol>
          {next ? (
            <button
              type="button"
              className="button button-strong"
              disabled={waits}
              title={waits ? "The keys are still being written." : undefined}
              onClick={() => {
                const commands = next.commands(frame);
                for (const command of commands) {
                  send(command);
                }
                setOwed(owedBy(commands, frame));
                setDone(done + 1);
              }}
            >
              {next.action}
            </button>
          ) : (
            <button type="button" className="button" onClick={() => setDone(0)}>
              From the start
            </button>
          )}
        </div>
      )}
    </Section>
  );
}
