import type { AnchorHTMLAttributes, MouseEvent } from "react";
import type { Route } from "../../domain/route";
import { go, hrefOf } from "../../store/route";

interface Props extends AnchorHTMLAttributes<HTMLAnchorElement> {
  to: Route;
}

/** A link to a view; it can be opened elsewhere and copied like any other. */
export function Link({ to, onClick, ...rest }: Props) {
  const follow = (event: MouseEvent<HTMLAnchorElement>) => {
    onClick?.(event);
    const elsewhere = event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0;
    if (!elsewhere && !event.defaultPrevented) {
      event.preventDefault();
      go(to);
    }
  };
  return <a {...rest} href={hrefOf(to)} onClick={follow} />;
}
