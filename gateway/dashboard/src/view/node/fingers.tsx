import type { FingerTable, FoldedFinger, Id, Node } from "../../api/schema";
import { percent } from "../../domain/format";
import { shareOf } from "../../domain/id";
import type { Answer } from "../parts/ask";
import { Section } from "../parts/figure";
import { Notice } from "../parts/notice";
import { MemberLink } from "./panel";

interface Props {
  answer: Answer<FingerTable> | null;
  byId: ReadonlyMap<Id, Node>;
  onMark: (target: Id | null) => void;
  heard: boolean;
}

/** The finger table, neighbours with the same target folded into one row. */
export function Fingers({ answer, byId, onMark, heard }: Props) {
  const table = answer?.kind === "there" ? answer.value : null;
  const aside =
    table && `${table.fingers.length} fingers, ${new Set(table.folded.map((it) => it.target?.id)).size} targets`;
  return (
    <Section title="Fingers" aside={aside}>
      {!heard && <p className="text-[0.8125rem] text-soft">It does not answer, so its fingers cannot be asked for.</p>}
      {answer?.kind === "asking" && <p className="text-[0.8125rem] text-soft">Asking the member …</p>}
      {answer?.kind === "failed" && (
        <Notice title={answer.error.title} tone="bad">
          {answer.error.detail}
        </Notice>
      )}
      {table && (
        <table className="w-full text-[0.8125rem]">
          <thead>
            <tr className="label text-left">
              <th className="py-1 font-normal">Finger i</th>
              <th className="py-1 font-normal">first at or after id + 2ⁱ</th>
              <th className="py-1 text-right font-normal">covers</th>
            </tr>
          </thead>
          <tbody>
            {table.folded.map((finger) => (
              <tr
                key={finger.first}
                onMouseEnter={() => onMark(finger.target?.id ?? null)}
                onMouseLeave={() => onMark(null)}
                onFocus={() => onMark(finger.target?.id ?? null)}
                onBlur={() => onMark(null)}
                className="border-t border-line hover:bg-wash"
              >
                <td className="py-1 font-mono text-xs">{range(finger)}</td>
                <td className="py-1">
                  {finger.target ? <MemberLink id={finger.target.id} byId={byId} /> : "not known yet"}
                </td>
                <td className="py-1 text-right text-soft">{percent(shareOf(finger.from, finger.until))}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Section>
  );
}

function range({ first, last }: FoldedFinger): string {
  return first === last ? String(first) : `${first}–${last}`;
}
