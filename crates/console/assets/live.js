// Polling that is polite: one request at a time, none while the page is hidden, slower while the server is in trouble.

const SLOWEST_MS = 15_000;

/** Keeps `data` fresh. `every` is a time in milliseconds, or a function of the data that may return null for "it is final". */
export class Feed {
  constructor(load, every, changed) {
    this.load = load;
    this.every = typeof every === 'function' ? every : () => every;
    this.changed = changed;
    this.data = null;
    this.problem = null;
    this.failures = 0;
    this.stopped = false;
    this.controller = null;
    this.timer = null;
    this.refresh();
  }

  /** Loading, and nothing to show yet. */
  get waiting() {
    return this.data === null && this.problem === null;
  }

  /** Asks now, instead of at the next turn. */
  async refresh() {
    clearTimeout(this.timer);
    this.controller?.abort();
    if (this.stopped) return;
    const controller = new AbortController();
    this.controller = controller;
    try {
      const data = await this.load(controller.signal);
      if (controller.signal.aborted) return;
      this.data = data;
      this.problem = null;
      this.failures = 0;
    } catch (problem) {
      if (controller.signal.aborted) return;
      this.problem = problem;
      this.failures += 1;
    }
    this.controller = null;
    this.changed(this);
    this.schedule();
  }

  schedule() {
    clearTimeout(this.timer);
    if (this.stopped || document.hidden) return;
    const pause = this.problem && this.data === null ? 2000 : this.every(this.data);
    if (pause === null) return;
    this.timer = setTimeout(() => this.refresh(), Math.min(pause * 2 ** this.failures, Math.max(pause, SLOWEST_MS)));
  }

  /** Call when the page becomes visible or hidden. */
  visibilityChanged() {
    if (document.hidden) {
      clearTimeout(this.timer);
    } else if (this.controller === null && (this.data === null || this.problem || this.every(this.data) !== null)) {
      this.refresh();
    }
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    this.controller?.abort();
  }
}

/** A list that grows downwards: a polled first page, and older pages that were asked for by hand. */
export class Pages {
  constructor(first, identity, loadMore, changed) {
    this.first = first;
    this.identity = identity;
    this.loadMore = loadMore;
    this.changed = changed;
    this.older = [];
    this.cursor = undefined;
    this.busy = false;
    this.problem = null;
  }

  get items() {
    const seen = new Set();
    return [...(this.first.data?.items ?? []), ...this.older].filter((item) => {
      const identity = this.identity(item);
      return seen.has(identity) ? false : seen.add(identity);
    });
  }

  get hasMore() {
    return this.nextCursor() !== null;
  }

  nextCursor() {
    return (this.cursor === undefined ? this.first.data?.next_cursor : this.cursor) ?? null;
  }

  async more() {
    const cursor = this.nextCursor();
    if (this.busy || cursor === null) return;
    this.busy = true;
    this.problem = null;
    this.changed();
    try {
      // Rows that newer ones push off the polled first page must not fall between the two.
      if (this.cursor === undefined) this.older = [...this.first.data.items];
      const page = await this.loadMore(cursor);
      this.older.push(...page.items);
      this.cursor = page.next_cursor ?? null;
    } catch (problem) {
      this.problem = problem;
    }
    this.busy = false;
    this.changed();
  }
}
