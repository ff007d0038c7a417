// A list that is read the way programs do: what has changed since the last time, and the rest is known.

import { getAll, withQuery } from '../api.js';

export class Growing {
  /** `identity` names an item; `since` is when the list begins, or null for all of it. */
  constructor(target, identity, since = null) {
    this.target = target;
    this.identity = identity;
    this.since = since;
    this.items = new Map();
  }

  /** Reads what is new; gives all items by their identity, those that changed last at the end. */
  async load(signal) {
    const { items } = await getAll(withQuery(this.target, { updated_since: this.since }), signal);
    for (const item of items) this.take(item);
    if (items.length > 0) this.since = items[items.length - 1].updated_at;
    return this.items;
  }

  take(item) {
    const id = this.identity(item);
    this.items.delete(id);
    this.items.set(id, item);
  }
}
