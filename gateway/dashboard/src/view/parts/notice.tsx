import type { ReactNode } from "react";

/** What is said in place of content that is not there: loading, empty, failed. */
export function Notice({
  title,
  children,
  tone = "quiet",
}: {
  title: string;
  children?: ReactNode;
  tone?: "quiet" | "bad";
}) {
  return (
    <div
      role={tone === "bad" ? "alert" : "status"}
      className={`rounded-md border px-4 py-3 text-sm ${tone === "bad" ? "border-lost" : "border-line"}`}
    >
      <p className={`font-medium ${tone === "bad" ? "text-lost" : ""}`}>{title}</p>
      {children && <div className="mt-1 text-soft">{children}</div>}
    </div>
  );
}
