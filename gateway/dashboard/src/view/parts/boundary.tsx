import { Component, type ReactNode } from "react";
import { Notice } from "./notice";

/** Keeps the rest of the page when a view breaks, or cannot be loaded because the gateway was replaced meanwhile. */
export class Boundary extends Component<{ children: ReactNode }, { broken: boolean }> {
  override state = { broken: false };

  static getDerivedStateFromError() {
    return { broken: true };
  }

  override render() {
    if (!this.state.broken) {
      return this.props.children;
    }
    return (
      <div className="col-span-full mx-auto max-w-md py-12">
        <Notice title="This view could not be shown" tone="bad">
          <p>The gateway may have been replaced by a newer one since the page was opened.</p>
          <button type="button" className="button mt-3" onClick={() => location.reload()}>
            Load the page anew
          </button>
        </Notice>
      </div>
    );
  }
}
