import { useRef, useState } from "react";

/** The address of what is seen. */
export function Share({ onAgain }: { onAgain: () => void }) {
  const field = useRef<HTMLInputElement>(null);
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    // Browsers let pages write to the clipboard over HTTPS only; else the address is marked, to be copied by hand.
    field.current?.select();
    try {
      await navigator.clipboard.writeText(location.href);
      setCopied(true);
      setTimeout(() => setCopied(false), 2000);
    } catch {
      field.current?.focus();
    }
  };
  return (
    <div className="flex gap-2 border-t border-line pt-4">
      <input
        ref={field}
        readOnly
        className="field grow text-xs"
        aria-label="Address of this view"
        value={location.href}
      />
      <button type="button" className="button shrink-0" onClick={copy}>
        {copied ? "Copied" : "Copy link"}
      </button>
      <button type="button" className="button shrink-0" onClick={onAgain}>
        Ask again
      </button>
    </div>
  );
}
