// The pieces that pages are made of: headings, badges, tables, banners, empty and loading states.

import { serverNow } from './api.js';
import { h } from './dom.js';
import { NONE, relative, stamp } from './format.js';
import { icon } from './icons.js';

const STATES = {
  never_ran: ['Never ran', 'ring', 'idle'],
  queued: ['Queued', 'dots', 'busy'],
  waiting: ['Waiting', 'dots', 'idle'],
  running: ['Running', 'spin', 'busy'],
  ok: ['OK', 'check', 'good'],
  succeeded: ['Succeeded', 'check', 'good'],
  done: ['Done', 'check', 'good'],
  failed: ['Failed', 'cross', 'bad'],
  gate_failed: ['Gate failed', 'diamond', 'bad'],
  late: ['Late', 'clock', 'warn'],
  stopped: ['Stopped', 'stop', 'idle'],
  met: ['SLA met', 'check', 'good'],
  missed: ['SLA missed', 'clock', 'bad'],
  passed: ['Passed', 'check', 'good'],
  warned: ['Warned', 'warning', 'warn'],
  quarantined: ['Quarantined', 'diamond', 'warn'],
  unchecked: ['No checks', 'ring', 'idle'],
  ready: ['Ready', 'check', 'good'],
  not_ready: ['Not ready', 'cross', 'bad'],
  draft: ['Draft', 'ring', 'idle'],
  published: ['Published', 'check', 'good'],
  cancelled: ['Cancelled', 'cross', 'bad'],
  on_sale: ['On sale', 'check', 'good'],
  coming: ['Not on sale yet', 'clock', 'busy'],
  off_sale: ['Sale ended', 'stop', 'idle'],
  sold_out: ['Sold out', 'cross', 'idle'],
  paying: ['Payment under way', 'dots', 'busy'],
  authorised: ['Payment under way', 'dots', 'busy'],
  booked: ['Booked', 'check', 'good'],
  captured: ['Paid', 'check', 'good'],
  voided: ['Not booked, not charged', 'stop', 'idle'],
  refund_due: ['Refund on its way', 'history', 'warn'],
  refunded: ['Refunded', 'history', 'idle'],
  admitted: ['Your turn', 'check', 'good'],
  paused: ['Paused', 'stop', 'warn'],
  estimated: ['Estimated', 'ring', 'idle'],
  requested: ['Waiting', 'dots', 'warn'],
  offered: ['Asking a driver', 'spin', 'busy'],
  accepted: ['Car on its way', 'car', 'busy'],
  arrived: ['At the pickup', 'pin', 'busy'],
  picked_up_rider: ['On the trip', 'car', 'good'],
  completed: ['Completed', 'check', 'good'],
  expired: ['Expired', 'clock', 'idle'],
  no_driver: ['No driver', 'cross', 'bad'],
  no_profile: ['No profile', 'ring', 'idle'],
  unapproved: ['Not approved', 'clock', 'warn'],
  approved: ['Approved', 'check', 'good'],
  asked: ['You are asked', 'spin', 'busy'],
  to_rider: ['To the rider', 'car', 'busy'],
  on_duty: ['On duty', 'check', 'good'],
  serving: ['Serving', 'check', 'good'],
  unwell: ['Unwell', 'cross', 'bad'],
  drained: ['Drained', 'stop', 'idle'],
  left_alone: ['Left alone for a while', 'clock', 'warn'],
  off_duty: ['Off duty', 'ring', 'idle'],
};

/** A state as shape, colour and word. A state that this page does not know is shown as the API names it. */
export function badge(state) {
  const [text, shape, tone] = STATES[state] ?? [String(state), 'ring', 'idle'];
  return h('span', { class: `badge tone-${tone}` }, icon(shape), h('span', null, text));
}

/** The shape alone, for dense grids; `title` says it in words. What is in order is small there, so that the rest stands out. */
export function mark(state, title) {
  const [text, shape, tone] = STATES[state] ?? [String(state), 'ring', 'idle'];
  return h('span', { class: `mark tone-${tone}`, role: 'img', 'aria-label': title ?? text, title: title ?? text }, icon(shape === 'check' ? 'dot' : shape));
}

export function heading({ crumbs = [], title, beside, under, actions }) {
  return h('header', { class: 'heading' },
    crumbs.length > 0 && h('nav', { class: 'crumbs', 'aria-label': 'Breadcrumb' },
      h('ol', null, crumbs.map(([text, href]) => h('li', null, h('a', { href }, text))))),
    h('div', { class: 'heading-row' },
      h('div', { class: 'heading-text' },
        h('div', { class: 'heading-title' }, h('h1', { id: 'title', tabindex: '-1' }, title), beside),
        under && h('p', { class: 'under' }, under)),
      actions && h('div', { class: 'actions' }, actions)));
}

export function section(title, content, { beside, note } = {}) {
  return h('section', { class: 'section', 'aria-label': title },
    h('div', { class: 'section-head' }, h('h2', null, title), beside),
    note && h('p', { class: 'note' }, note),
    content);
}

export function button(text, onclick, { shape, kind = '', disabled = false, label, name } = {}) {
  return h('button', { type: 'button', class: `button ${kind}`, onclick, disabled, 'aria-label': label, 'data-action': name }, shape && icon(shape), h('span', null, text));
}

/** A moment: "4 min ago" to read, the exact time on hover and for machines. */
export function moment(iso, { exact = false } = {}) {
  if (!iso) return NONE;
  const now = serverNow();
  const [shown, hidden] = exact ? [stamp(iso, now), relative(iso, now)] : [relative(iso, now), `${stamp(iso, now)} UTC`];
  return h('time', { datetime: iso, title: hidden }, shown);
}

/** Labelled values. Entries: [label, value]; falsy entries are left out. */
export function facts(entries) {
  return h('dl', { class: 'facts' }, entries.filter(Boolean).map(([label, value]) =>
    h('div', { key: label }, h('dt', null, label), h('dd', null, value ?? NONE))));
}

/** A table that turns into cards on a phone. Columns: {label, cell(row), numeric, main, wide, hide}. */
export function table({ label, columns, rows, key }) {
  const shown = columns.filter((column) => !column.hide);
  return h('table', { class: 'table', role: 'table', 'aria-label': label },
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, shown.map((column) =>
      h('th', { role: 'columnheader', scope: 'col', class: classes(column) }, column.label)))),
    h('tbody', { role: 'rowgroup' }, rows.map((row, index) =>
      h('tr', { role: 'row', key: key ? key(row, index) : index }, shown.map((column) =>
        h(column.main ? 'th' : 'td', { role: column.main ? 'rowheader' : 'cell', scope: column.main ? 'row' : undefined, class: classes(column), 'data-label': column.label },
          h('div', { class: 'cell' }, column.cell(row))))))));
}

function classes({ numeric, main, wide }) {
  return [numeric && 'numeric', main && 'main', wide && 'wide'].filter(Boolean).join(' ') || undefined;
}

/** What to show when there is nothing: why, and what to do about it. */
export function empty(title, text, action) {
  return h('div', { class: 'empty' }, h('p', { class: 'empty-title' }, title), text && h('p', null, prose(text)), action);
}

export function loading(lines = 4) {
  return h('div', { class: 'loading', role: 'status', 'aria-label': 'Loading' },
    Array.from({ length: lines }, (_, index) => h('div', { class: 'bone', key: index })));
}

/** One banner for all the feeds of a page that are in trouble, with a way to ask again. */
export function troubles(...feeds) {
  const failing = feeds.filter((feed) => feed.problem);
  if (failing.length === 0) return null;
  const { problem } = failing[0];
  const stale = failing.some((feed) => feed.data !== null);
  return banner({
    title: problem.title ?? 'Something went wrong in this page',
    text: [problem.message === problem.title ? null : prose(sentence(problem.message)), stale && ' What you see below is from before.'],
    code: problem,
    action: problem.status === 401
      ? h('a', { class: 'button small', href: `#/sign-in?back=${encodeURIComponent(location.hash)}` }, 'Sign in')
      : button('Try again', () => failing.forEach((feed) => feed.refresh()), { kind: 'small' }),
  });
}

export function banner({ title, text, code, action, tone = 'bad' }) {
  return h('div', { class: `banner tone-${tone}`, role: tone === 'bad' ? 'alert' : 'note' },
    icon({ bad: 'cross', good: 'check' }[tone] ?? 'warning'),
    h('div', { class: 'banner-body' }, h('p', { class: 'banner-title' }, title), text && h('p', null, typeof text === 'string' ? prose(sentence(text)) : text), code && codes(code)),
    action && h('div', { class: 'banner-action' }, action));
}

/** Messages of the API begin as log lines do; on a page they are sentences. A quoted name keeps its letters. */
export function sentence(text) {
  return /^[a-z]+[ ,;:]/.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
}

/** Text in which `quoted` parts, as our messages have them, are set as code. */
export function prose(text) {
  const parts = String(text).split('`');
  if (parts.length % 2 === 0) return String(text);
  return parts.map((part, index) => (index % 2 ? h('code', null, part) : part));
}

/** The words to search for or to send to whoever runs this: error code and request id. */
export function codes({ code, requestId }) {
  if (!code && !requestId) return null;
  return h('p', { class: 'codes' }, code && h('code', null, code), requestId && ['request ', h('code', null, requestId)]);
}

/** True when the feed says that the thing does not exist (not that the server is in trouble). */
export function isMissing(feed) {
  return feed.data === null && feed.problem?.status === 404;
}

/** A bar against a known total, or one that only says "busy". */
export function progress(label, value, total, busy) {
  const share = total > 0 ? Math.min(1, value / total) : null;
  return h('div', {
    class: `bar ${share === null && busy ? 'bar-unknown' : ''}`,
    role: 'progressbar',
    'aria-label': label,
    'aria-valuemin': '0',
    'aria-valuemax': share === null ? undefined : '100',
    'aria-valuenow': share === null ? undefined : String(Math.floor(share * 100)),
  }, h('span', { style: { width: `${share === null ? 0 : share * 100}%` } }));
}

/** Buttons of which one is chosen. Choices: [value, text]. */
export function choices(label, options, chosen, choose) {
  return h('div', { class: 'choices', role: 'group', 'aria-label': label }, options.map(([value, text]) =>
    h('button', { type: 'button', key: value, 'aria-pressed': String(value === chosen), onclick: () => choose(value) }, text)));
}

export function morePages(pages, words = 'Show older') {
  if (!pages.hasMore && !pages.problem) return null;
  return h('div', { class: 'more' },
    pages.problem && h('p', { class: 'field-error', role: 'alert' }, pages.problem.message),
    button(pages.busy ? 'Loading…' : words, () => pages.more(), { disabled: pages.busy }));
}

let toastCount = 0;
const TOAST_MS = 8000;

/** A passing note, with an optional link [text, href]. */
export function toast(text, link) {
  const host = document.getElementById('toasts');
  const item = document.createElement('div');
  item.className = 'toast';
  item.id = `toast-${(toastCount += 1)}`;
  item.append(text);
  if (link) {
    const anchor = document.createElement('a');
    anchor.textContent = link[0];
    anchor.href = link[1];
    item.append(' ', anchor);
  }
  host.append(item);
  setTimeout(() => item.remove(), TOAST_MS);
}
