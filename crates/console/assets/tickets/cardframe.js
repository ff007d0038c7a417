// The card form of a payment provider: a page of its own in a frame, so that only that page runs the provider's script. What
// is typed there goes to the provider; this page gets the name of a payment method.

import { h } from '../dom.js';

/** Longer than the frame itself waits for the script. */
const PATIENCE_MS = 20_000;
const ANSWER_MS = 30_000;

export class CardFrame {
  /** `address` of the provider's page; `changed()` after every change. */
  constructor(page, address, changed) {
    this.address = address;
    this.changed = changed;
    this.host = null;
    this.begin();
    this.asked = 0;
    this.waiting = new Map();
    const listen = (event) => this.hear(event);
    window.addEventListener('message', listen);
    page.closing(() => {
      window.removeEventListener('message', listen);
      clearTimeout(this.timer);
    });
  }

  begin() {
    /** `loading`, `ready` or `unreachable`. */
    this.state = 'loading';
    this.from = null;
    this.fault = null;
    this.complete = false;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.state === 'loading' && this.lost(null), PATIENCE_MS);
  }

  again() {
    this.begin();
    this.host?.contentWindow.location.reload();
    this.changed();
  }

  lost(from) {
    this.state = 'unreachable';
    this.from = from;
    this.changed();
  }

  hear({ origin, source, data }) {
    if (origin !== location.origin || !this.host || source !== this.host.contentWindow) return;
    if (data?.card === 'ready') {
      this.state = 'ready';
      this.changed();
    } else if (data?.card === 'unreachable') {
      this.lost(String(data.from));
    } else if (data?.card === 'changed') {
      this.complete = data.complete === true;
      this.fault = data.error === null ? null : String(data.error);
      this.changed();
    } else if (data?.card === 'method') {
      this.settle(data.ask)?.resolve(String(data.id));
    } else if (data?.card === 'refused') {
      this.settle(data.ask)?.reject(new Error(String(data.message)));
    }
  }

  settle(ask) {
    const found = this.waiting.get(ask);
    this.waiting.delete(ask);
    return found;
  }

  /** The name of a payment method for what was typed; rejects with what the provider says is wrong with it. */
  method() {
    const ask = (this.asked += 1);
    return new Promise((resolve, reject) => {
      this.waiting.set(ask, { resolve, reject });
      setTimeout(() => this.settle(ask)?.reject(new Error('The card form does not answer. Check the network, then try again.')), ANSWER_MS);
      this.host.contentWindow.postMessage({ card: 'pay', ask }, location.origin);
    });
  }

  view() {
    return h('iframe', { key: 'card frame', class: 'card-frame', title: 'Card details', src: this.address, ref: (host) => { this.host = host; } });
  }
}
