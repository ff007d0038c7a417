// A stream of events that is kept open: asked for again after a cut, sooner at first than later.

import { getEvents } from '../api.js';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

/** `told(name, data)` hears of each event, `opened()` of each new beginning. Ends with the page. */
export class Watch {
  constructor(page, target, told, opened = () => {}) {
    this.page = page;
    this.target = target;
    this.told = told;
    this.opened = opened;
    /** `loading`, `live`, `behind`, or `over` (refused; `problem` says why). */
    this.status = 'loading';
    this.problem = null;
    this.controller = new AbortController();
    this.pause = FIRST_PAUSE_MS;
    page.closing(() => this.stop());
    this.run();
  }

  async run() {
    const { signal } = this.controller;
    while (!signal.aborted) {
      try {
        await getEvents(this.target, signal, () => { this.become('live', null); this.opened(); }, (name, data) => this.told(name, data));
        this.become('behind', null);
      } catch (problem) {
        if (signal.aborted) return;
        // What is refused stays refused; anything else may pass.
        const refused = problem.status >= 400 && problem.status < 500 && problem.status !== 429;
        this.become(refused ? 'over' : 'behind', problem);
        if (refused) return;
      }
      const pause = this.pause;
      this.pause = Math.min(this.pause * 2, LONGEST_PAUSE_MS);
      await new Promise((wake) => { setTimeout(wake, pause); });
    }
  }

  become(status, problem) {
    if (status === 'live') this.pause = FIRST_PAUSE_MS;
    if (this.controller.signal.aborted || (this.status === status && !problem)) return;
    Object.assign(this, { status, problem });
    this.page.render();
  }

  /** Asks anew at once: the server says that something was missed. */
  again() {
    this.stop();
    this.controller = new AbortController();
    this.run();
  }

  stop() {
    this.controller.abort();
  }
}
