import type { Condition, Operation, OperatorStatus } from "../../api/schema";
import { clock, count, plural, span } from "../../domain/format";
import { explain, isSilent, parted } from "../../domain/operator";
import { Notice } from "../parts/notice";

/** What the operator does at the moment, and what it says of the ring. */
export function OperatorPanel({ operator, now }: { operator: OperatorStatus | null; now: number }) {
  return (
    <section aria-labelledby="operator" className="panel shrink-0">
      <div className="mb-2 flex flex-wrap items-baseline justify-between gap-x-4">
        <h2 id="operator" className="text-[0.8125rem] font-semibold">
          Operator
        </h2>
        {operator && (
          <p className="label">
            {plural(operator.wanted, "member")} wanted, {count(operator.members)} there, {count(operator.serving)}{" "}
            serving
          </p>
        )}
      </div>
      {operator ? <Said operator={operator} now={now} /> : <Nobody />}
    </section>
  );
}

function Nobody() {
  return (
    <Notice title="No operator looks after this ring">
      The members look after it themselves: they notice faults, and make copies anew. On Kubernetes the operator joins
      and removes members, and says here what it does. If this ring has one: it has not spoken since its members
      started.
    </Notice>
  );
}

function Said({ operator, now }: { operator: OperatorStatus; now: number }) {
  const { open, good } = parted(operator.conditions);
  return (
    <>
      {isSilent(operator.at, now) && (
        <div className="mb-3">
          <Notice title={`The operator has said nothing for ${span(now - operator.at)}`}>
            What follows is as of {clock(operator.at)}. The ring goes on by itself; joins, leaves and changes of its
            spec wait until an operator runs again.
          </Notice>
        </div>
      )}
      <Progress operation={operator.operation} operator={operator} />
      <Lines conditions={open} />
      {good.length > 0 && (
        <details className="mt-1 text-[0.8125rem]">
          <summary className="text-soft">
            {plural(good.length, "condition is as it should be", "conditions are as they should be")}
          </summary>
          <Lines conditions={good} />
        </details>
      )}
    </>
  );
}

const DOES: Record<string, string> = { Join: "joins", Leave: "leaves", Replace: "is replaced" };

/** A scale is one join or leave after the other: which one it is at, and how far the whole is. */
function Progress({ operation, operator }: { operation: Operation | null; operator: OperatorStatus }) {
  if (!operation) {
    return <p className="text-[0.8125rem] text-soft">Nothing is under way.</p>;
  }
  const { wanted, serving } = operator;
  return (
    <div role="status" className="rounded-md bg-wash px-3 py-2 text-[0.8125rem]">
      <p>
        <span className="font-medium text-joining">
          {operation.member} {DOES[operation.kind] ?? `: ${operation.kind}`}
        </span>
        <span className="text-soft"> {operation.progress}</span>
      </p>
      {serving !== wanted && (
        <p className="mt-1 flex items-center gap-3">
          <progress
            className="h-1.5 grow accent-(--joining)"
            max={Math.max(wanted, serving)}
            value={Math.min(wanted, serving)}
          />
          <span className="label">
            {count(serving)} of {plural(wanted, "member")}
          </span>
        </p>
      )}
    </div>
  );
}

function Lines({ conditions }: { conditions: readonly Condition[] }) {
  return (
    <ul className="mt-2 grid gap-x-6 md:grid-cols-2">
      {conditions.map((condition) => (
        <Line key={condition.type} condition={condition} />
      ))}
    </ul>
  );
}

function Line({ condition }: { condition: Condition }) {
  const { isGood, means, why, todo } = explain(condition);
  // That something is under way is no harm.
  const tone = condition.type === "Progressing" ? "text-joining" : "text-suspect";
  return (
    <li data-condition={condition.type} className="border-t border-line py-2 text-[0.8125rem]">
      <p className="flex flex-wrap items-baseline gap-x-2">
        <span className={`font-medium ${isGood ? "" : tone}`}>{condition.type}</span>
        <span className={isGood ? "text-serving" : tone}>{condition.status}</span>
        <span className="text-faint">
          {condition.reason}, since {clock(condition.since)}
        </span>
      </p>
      {means && <p className="text-soft">{means}</p>}
      {!isGood && (
        <>
          <p className="break-words">The operator says: {condition.message}</p>
          {why && <p className="text-soft">{why}</p>}
          {todo && (
            <p>
              <span className="font-medium">What to do: </span>
              {todo}
            </p>
          )}
        </>
      )}
    </li>
  );
}
