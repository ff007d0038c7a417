// Tickets › My tickets: what this fan has bought, and the tickets themselves with their codes.

import { get, getAll, getBlob, path, serverNow, withQuery } from '../api.js';
import { openDialog } from '../dialog.js';
import { h } from '../dom.js';
import { download } from '../download.js';
import { counted } from '../format.js';
import { send } from '../intents.js';
import { Pages } from '../live.js';
import { badge, banner, button, empty, heading, isMissing, loading, moment, morePages, section, toast, troubles } from '../parts.js';
import { signInFirst } from '../pages/sign-in.js';
import { orderLink } from './checkout.js';
import { eventLink } from './event.js';
import { thisYear } from './search.js';
import { clockTime, leaf, money, place, when } from './words.js';

const PER_PAGE = 100;
const FRESH_MS = 10_000;
const DAY_MS = 86_400_000;
const UNDER_WAY = ['paying', 'authorised'];
const HAS_TICKETS = ['booked', 'captured'];

export function orders(page) {
  page.title('My tickets');
  page.view = () => [heading({ title: 'My tickets' }), signInFirst('fan', 'Tickets belong to somebody: sign in to see yours.')];
  if (signInFirst('fan', '')) return;
  const first = page.feed((signal) => get(withQuery('/orders', { sort: 'newest', limit: PER_PAGE }), signal), FRESH_MS);
  const list = new Pages(first, ({ id }) => id, (cursor) => get(withQuery('/orders', { sort: 'newest', limit: PER_PAGE, cursor })), () => page.render());
  const owned = page.feed((signal) => getAll('/tickets', signal), FRESH_MS);
  const pictures = new Pictures(page);
  page.view = () => {
    const now = serverNow();
    const coming = list.items.filter((one) => HAS_TICKETS.includes(one.state) && one.event_status !== 'cancelled' && Date.parse(one.starts_at) > now).sort((a, b) => Date.parse(a.starts_at) - Date.parse(b.starts_at));
    const open = list.items.filter((one) => UNDER_WAY.includes(one.state));
    const rest = list.items.filter((one) => !coming.includes(one) && !open.includes(one));
    const venues = new Map((owned.data?.items ?? []).map(({ event, venue }) => [event, venue]));
    const given = first.data && !list.hasMore ? givenToMe(owned.data?.items ?? [], list.items) : [];
    return [
      heading({ title: 'My tickets', under: first.data && coming.length > 0 && `${counted(coming.length, 'order')} for events to come` }),
      troubles(first, owned),
      first.waiting && loading(4),
      first.data && owned.data && list.items.length === 0 && given.length === 0 && empty('No tickets yet', 'What you buy appears here, with the code that opens the door.', h('a', { class: 'button primary', href: '#/tickets' }, 'Look for events')),
      open.length > 0 && section('Being paid', orderCards(open, venues)),
      coming.length > 0 && section('Coming up', orderCards(coming, venues)),
      given.length > 0 && section('Passed on to you', ticketCards(given.map((ticket) => [ticket, ticket]), owned, pictures)),
      rest.length > 0 && section('Past and not completed', orderCards(rest, venues)),
      morePages(list),
    ];
  };
}

/** Tickets of orders that others paid. */
function givenToMe(tickets, own) {
  const paid = new Set(own.map(({ id }) => id));
  return tickets.filter((ticket) => !paid.has(ticket.order) && Date.parse(ticket.starts_at) > serverNow() - DAY_MS);
}

/** Orders name their venue; the tickets know where it is and what its clock says. */
function orderCards(list, venues) {
  return h('ul', { class: 'event-cards' }, list.map((one) => {
    const venue = venues.get(one.event) ?? { name: one.venue };
    const day = leaf(one.starts_at, venue.timezone);
    return h('li', { key: one.id }, h('a', { class: 'event-card', href: orderLink(one.id) },
      h('span', { class: 'leaf', 'aria-hidden': 'true' }, h('span', null, day.month), h('strong', null, day.day), h('small', null, thisYear(day) ? day.weekday : day.year)),
      h('span', { class: 'event-text' },
        h('span', { class: 'event-name break' }, one.event_name),
        h('span', { class: 'muted break' }, [venue.name, venue.city].filter(Boolean).join(', ')),
        h('span', { class: 'event-foot' }, h('span', { class: 'muted' }, `${counted(one.count, 'ticket')} · ${money(one.total)}`), badge(one.state)))));
  }));
}

export function order(page) {
  page.title('Order');
  page.view = () => [heading({ title: 'Order', crumbs: [['My tickets', '#/tickets/orders']] }), signInFirst('fan', 'Sign in as the one who bought it.')];
  if (signInFirst('fan', '')) return;
  const { id } = page.params;
  const pictures = new Pictures(page);
  let event = null;
  const feed = page.feed((signal) => get(path('orders', id), signal), (data) => (data && ['captured', 'failed', 'voided', 'refunded'].includes(data.state) ? FRESH_MS : 1500));
  page.view = () => {
    if (isMissing(feed)) return [heading({ title: 'No such order', crumbs: [['My tickets', '#/tickets/orders']] }), empty('There is no order at this address', 'Or it is somebody else’s.')];
    if (feed.data) event ??= page.feed((signal) => get(path('event', feed.data.event), signal), () => null);
    const data = feed.data && { ...feed.data, venue: event.data?.venue ?? { name: feed.data.venue } };
    if (data) page.title(data.event_name);
    return [
      heading({
        crumbs: [['My tickets', '#/tickets/orders']],
        title: data?.event_name ?? 'Order',
        beside: data && badge(data.state),
        under: data && [`${when(data.starts_at, data.venue?.timezone)} · `, h('span', { class: 'nowrap' }, [data.venue?.name, data.venue?.city].filter(Boolean).join(', '))],
      }),
      troubles(feed),
      feed.waiting && loading(4),
      data && [
        page.query.get('new') && HAS_TICKETS.includes(data.state) && banner({ tone: 'good', title: 'Done: these are your tickets', text: 'Show the code at the door, from the screen or on paper.' }),
        outcome(data),
        HAS_TICKETS.includes(data.state) && ticketCards(data.tickets.map((ticket) => [ticket, data]), feed, pictures),
        receipt(feed, data, event.data?.rules),
      ],
    ];
  };
}

function outcome({ state, failure, event_status: event }) {
  if (event === 'cancelled' && HAS_TICKETS.includes(state)) return banner({ tone: 'warn', title: 'The event was cancelled', text: 'Your money goes back by itself.' });
  if (state === 'failed') return banner({ title: 'The payment failed', text: failure?.detail ?? 'Nothing was charged.', code: failure ?? {} });
  if (state === 'voided') return banner({ tone: 'warn', title: 'Nothing was booked and nothing charged', text: failure?.detail, code: failure ?? {} });
  if (state === 'refund_due') return banner({ tone: 'warn', title: 'Your money is on its way back', text: failure?.detail ?? 'The refund has been asked for.', code: failure ?? {} });
  if (state === 'refunded') return banner({ tone: 'warn', title: 'Refunded', text: failure?.detail ?? 'These tickets no longer open the door.', code: failure ?? {} });
  if (state === 'paying' || state === 'authorised') return banner({ tone: 'warn', title: 'The payment is being settled', text: 'This page goes on by itself.' });
  return null;
}

/** Each ticket with what knows its event: the order, or the ticket itself. */
function ticketCards(pairs, feed, pictures) {
  return h('ul', { class: 'tickets' }, pairs.map(([ticket, data]) => h('li', { key: ticket.id }, ticketCard(ticket, data, feed, pictures))));
}

function ticketCard(ticket, data, feed, pictures) {
  const url = pictures.of(ticket);
  const gone = pictures.isGone(ticket);
  return h('article', { class: 'ticket', 'aria-label': `Ticket for ${place(ticket)}` },
    h('div', { class: 'ticket-code' }, url
      ? h('img', { src: url, alt: `Entry code of ${place(ticket)}`, width: '220', height: '220' })
      : h('p', { class: 'muted' }, gone ? 'Not yours any more: passed on or given back.' : pictures.problem ? 'The code cannot be loaded; it is tried again in a moment.' : 'Drawing the code…')),
    h('div', { class: 'ticket-text' },
      h('p', { class: 'ticket-place break' }, place(ticket)),
      h('p', { class: 'muted break' }, `${data.event_name}, ${when(data.starts_at, data.venue?.timezone)}`),
      h('p', { class: 'muted' }, [ticket.price && money(ticket.price), `starts ${clockTime(data.starts_at, data.venue?.timezone)}`].filter(Boolean).join(' · ')),
      !gone && h('div', { class: 'actions' },
        button('Printable PDF', () => download(path('tickets', ticket.id, 'ticket.pdf'), `ticket-${place(ticket).replaceAll(/[^\p{L}\p{N}]+/gu, '-')}.pdf`), { kind: 'small' }),
        ticket.transferable !== false && button('Pass on', () => transferDialog(ticket, feed), { kind: 'small' }),
        button('Copy code', () => copyCode(ticket), { kind: 'small' })),
      !gone && h('p', { class: 'codes' }, h('code', { class: 'break' }, ticket.id))));
}

function receipt(feed, data, rules) {
  const refunded = data.refunded?.amount > 0;
  return section('Receipt', h('div', { class: 'card stack-small' },
    h('dl', { class: 'facts' }, [
      ['Paid', money(data.total)],
      data.promo_code && ['Promo code', data.promo_code],
      refunded && ['Refunded', money(data.refunded)],
      ['Ordered', moment(data.created_at, { exact: true })],
      ['Order', h('code', { class: 'break' }, data.id)],
    ].filter(Boolean).map(([label, value]) => h('div', { key: label }, h('dt', null, label), h('dd', null, value)))),
    h('div', { class: 'actions' },
      h('a', { class: 'button small', href: eventLink(data.event) }, 'The event'),
      HAS_TICKETS.includes(data.state) && takenBack(data, rules) && button('Give back for a refund', () => refundDialog(data, feed), { kind: 'small danger' })),
    HAS_TICKETS.includes(data.state) && rules && h('p', { class: 'muted' }, refundWords(data, rules))));
}

const HOUR_MS = 3_600_000;

/** Until when tickets are taken back, in milliseconds; null where they are not, or it is not known. */
function refundsUntil(data, rules) {
  const hours = rules?.refundable_until_h;
  return hours === null || hours === undefined ? null : Date.parse(data.starts_at) - hours * HOUR_MS;
}

function takenBack(data, rules) {
  return refundsUntil(data, rules) > serverNow();
}

function refundWords(data, rules) {
  const until = refundsUntil(data, rules);
  if (until === null) return 'Tickets of this event are not taken back.';
  const moment = when(new Date(until).toISOString(), data.venue?.timezone);
  return until > serverNow() ? `Tickets are taken back until ${moment}.` : `Tickets were taken back until ${moment}.`;
}

/** The codes as pictures. They need the token, so they are fetched and shown from memory. */
class Pictures {
  constructor(page) {
    this.page = page;
    this.urls = new Map();
    this.gone = new Set();
    this.problem = null;
    page.closing(() => [...this.urls.values()].filter(Boolean).forEach((url) => URL.revokeObjectURL(url)));
  }

  of(ticket) {
    // A ticket that was passed on and came back has another code.
    const name = `${ticket.id} ${ticket.qr ?? ''}`;
    if (!this.urls.has(name)) {
      this.urls.set(name, null);
      this.load(name, ticket.id);
    }
    return this.urls.get(name);
  }

  /** Whether there is no code for this person any more. */
  isGone(ticket) {
    return this.gone.has(ticket.id);
  }

  async load(name, id) {
    try {
      const picture = await getBlob(path('tickets', id, 'qr.svg'), 'image/svg+xml');
      if (this.page.closed) return;
      this.urls.set(name, URL.createObjectURL(picture));
      this.gone.delete(id);
      this.problem = null;
    } catch (problem) {
      if (problem.status === 404 || problem.status === 403) this.gone.add(id);
      else this.problem = problem;
      // Asked again at the page's next turn.
      setTimeout(() => this.urls.delete(name), FRESH_MS);
    }
    this.page.render();
  }
}

/** An order's tickets come without their codes, which only their owner's own page has. */
async function copyCode({ id, qr }) {
  try {
    await copy(qr ?? (await get(path('tickets', id))).qr);
  } catch (problem) {
    toast(`The code was not copied: ${problem.message}`);
  }
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast('The code is on the clipboard: paste it at the door page.');
  } catch {
    toast(text);
  }
}

function transferDialog(ticket, feed) {
  const form = { to: '' };
  openDialog({
    title: `Pass on ${place(ticket)}`,
    confirm: 'Pass on',
    check: () => (form.to.trim() ? null : 'Say to whom.'),
    submit: async () => {
      await send(path('tickets', ticket.id, 'transfer'), { to: form.to.trim() });
      toast(`${place(ticket)} now belongs to ${form.to.trim()}.`);
      feed.refresh();
    },
    view: (redraw) => [
      h('p', null, 'The ticket gets a new code for its new owner. The code that you have now stops opening the door.'),
      h('div', { class: 'field' }, h('label', { for: 'transfer-to' }, 'Account of the new owner'),
        h('input', { id: 'transfer-to', autocomplete: 'off', oninput: (event) => { form.to = event.target.value; redraw(); } })),
    ],
  });
}

function refundDialog(data, feed) {
  const chosen = new Set(data.tickets.map(({ id }) => id));
  openDialog({
    title: 'Give tickets back?',
    confirm: 'Give back',
    dismiss: 'Keep them',
    danger: true,
    check: () => (chosen.size === 0 ? 'Choose at least one ticket.' : null),
    submit: async () => {
      await send(path('orders', data.id, 'refund'), chosen.size === data.tickets.length ? {} : { ticket_ids: [...chosen] });
      toast('The refund has been asked for.');
      feed.refresh();
    },
    view: (redraw) => [
      h('p', null, 'They stop opening the door at once, and the money goes back to the card.'),
      h('fieldset', { class: 'checks' }, h('legend', null, 'Tickets'), data.tickets.map((ticket) => h('label', { class: 'check', key: ticket.id },
        h('input', {
          type: 'checkbox', checked: chosen.has(ticket.id),
          onchange: (event) => { if (event.target.checked) chosen.add(ticket.id); else chosen.delete(ticket.id); redraw(); },
        }), h('span', null, place(ticket))))),
    ],
  });
}
