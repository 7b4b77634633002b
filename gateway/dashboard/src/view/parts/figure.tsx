import type { ReactNode } from "react";

/** A figure with its name, unit and, below, what to make of it. */
export function Figure({
  name,
  value,
  unit,
  note,
}: {
  name: string;
  value: ReactNode;
  unit?: string;
  note?: ReactNode;
}) {
  return (
    <div className="min-w-0">
      <dt className="label">{name}</dt>
      <dd className="text-xl leading-7 font-medium tracking-tight">
        {value}
        {unit && <span className="ml-1 text-sm font-normal text-soft">{unit}</span>}
      </dd>
      {note && <dd className="label">{note}</dd>}
    </div>
  );
}

/** A name and a value on one line. */
export function Row({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div className="flex items-baseline justify-between gap-4 py-1">
      <dt className="shrink-0 text-[0.8125rem] text-faint">{name}</dt>
      <dd className="min-w-0 text-right text-[0.8125rem] break-words">{children}</dd>
    </div>
  );
}

export function Section({ title, aside, children }: { title: string; aside?: ReactNode; children: ReactNode }) {
  return (
    <section className="border-t border-line py-4 first-of-type:border-t-0 first-of-type:pt-0 last:pb-0">
      <div className="mb-2 flex items-baseline justify-between gap-3">
        <h3 className="text-[0.8125rem] font-semibold">{title}</h3>
        {aside && <div className="label text-right">{aside}</div>}
      </div>
      {children}
    </section>
  );
}
