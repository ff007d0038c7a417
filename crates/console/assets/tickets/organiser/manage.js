// Tickets › Organiser › one event: publish or cancel it, watch the sale, run the waiting room, make promo codes.

import { get, getAll, path } from '../../api.js';
import { openDialog } from '../../dialog.js';
import { h } from '../../dom.js';
import { download } from '../../download.js';
import { compact, count, counted, duration, percent } from '../../format.js';
import { send } from '../../intents.js';
import { banner, button, empty, facts, heading, isMissing, loading, progress, section, table, toast, troubles } from '../../parts.js';
import { signInFirst } from '../../pages/sign-in.js';
import { plot } from '../../plot.js';
import { eventBadge, eventLink } from '../event.js';
import { leaf, money, when } from '../words.js';
import { manageLink } from './events.js';
import { text } from './fields.js';
import { zonesOf } from './zones.js';

const FRESH_MS = 2000;
const HOUR_MS = 3_600_000;
const HOURS_SHOWN = 72;

export function manage(page) {
  const { id } = page.params;
  page.title('Event');
  page.view = () => [heading({ title: 'Event', crumbs: [['Organiser', '#/tickets/organiser']] }), signInFirst('organiser', 'Sign in as the organiser of this event.')];
  if (signInFirst('organiser', '')) return;
  const state = { busy: false, problem: null, selected: null };
  const feed = page.feed((signal) => get(path('organiser', 'events', id), signal), 5000);
  const report = page.feed((signal) => get(path('organiser', 'events', id, 'report'), signal), FRESH_MS);
  const promos = page.feed((signal) => getAll(path('organiser', 'events', id, 'promo-codes'), signal), 15_000);
  const zones = zonesOf(page);
  const context = { page, id, state, feed, report, line: null, promos, zones };
  page.view = () => {
    if (isMissing(feed)) return [heading({ title: 'No such event', crumbs: [['Organiser', '#/tickets/organiser']] }), empty('There is no event at this address', 'Or it is another organiser’s.')];
    const { data } = feed;
    if (data) page.title(data.name);
    // A draft has no waiting room yet.
    if (data && data.status !== 'draft') context.line ??= page.feed((signal) => get(path('event', id, 'queue', 'control'), signal), FRESH_MS);
    return [
      heading({
        crumbs: [['Organiser', '#/tickets/organiser']],
        title: data?.name ?? 'Event',
        beside: data && eventBadge(data),
        under: data && [when(data.starts_at, zones.of(data.venue)), zones.of(data.venue) ? null : ' UTC'],
        actions: data && actions(context, data),
      }),
      troubles(feed),
      state.problem && banner({ title: 'That did not work', text: state.problem.message, code: state.problem, action: button('Dismiss', () => { state.problem = null; page.render(); }, { kind: 'small' }) }),
      feed.waiting && loading(5),
      data && [
        data.status === 'draft' && banner({ tone: 'warn', title: 'A draft: only you see it', text: 'Look at it, then publish it. After that its seats and prices stay as they are.' }),
        data.status !== 'draft' && sales(context, data),
        data.status !== 'draft' && waitingRoom(context, data),
        promoCodes(context, data),
      ],
    ];
  };
}

function actions({ page, id, state, feed }, data) {
  const act = async (what, words) => {
    state.busy = true;
    state.problem = null;
    page.render();
    try {
      await send(path('organiser', 'events', id, what), {});
      toast(words);
      feed.refresh();
    } catch (problem) {
      state.problem = problem;
    }
    state.busy = false;
    page.render();
  };
  return [
    data.status === 'draft' && button('Publish', () => act('publish', `${data.name} is public.`), { kind: 'primary', disabled: state.busy, name: 'publish' }),
    data.status !== 'cancelled' && h('a', { class: 'button', href: manageLink(id, 'edit') }, 'Edit'),
    data.status !== 'draft' && h('a', { class: 'button', href: eventLink(id) }, 'As fans see it'),
    data.status !== 'draft' && button('Export CSV', () => download(path('organiser', 'events', id, 'export.csv'), `${id}.csv`)),
    data.status === 'published' && button('Cancel event', () => cancelDialog(data, feed), { kind: 'danger' }),
  ];
}

function cancelDialog(data, feed) {
  openDialog({
    title: `Cancel ${data.name}?`,
    confirm: 'Cancel the event',
    dismiss: 'Keep it',
    danger: true,
    check: () => null,
    submit: async () => {
      await send(path('organiser', 'events', data.id, 'cancel'), {});
      feed.refresh();
    },
    view: () => h('p', null, 'The sale stops at once and everyone who has bought gets the money back. This cannot be undone.'),
  });
}

function tile(label, value, under) {
  return h('div', { class: 'tile', key: label }, h('dt', null, label), h('dd', null, value, under && h('div', { class: 'tile-under' }, under)));
}

function sales(context, data) {
  const { report } = context;
  const now = report.data;
  return section('Sale', [
    troubles(report),
    report.waiting && loading(3),
    now && [
      totals(now),
      progress('Sold', now.tickets.sold, now.tickets.total, false),
      hours(context, now),
      levelTable(now),
    ],
  ], { beside: h('span', { class: 'light muted' }, 'Live') });
}

function totals({ tickets, revenue, orders, checked_in: inside }) {
  const back = [revenue.refunded.amount > 0 && `${money(revenue.refunded)} refunded`, revenue.refunds_due > 0 && `${counted(revenue.refunds_due, 'refund')} under way`].filter(Boolean);
  return h('dl', { class: 'tiles' },
    tile('Sold', count(tickets.sold), tickets.total > 0 && `${percent(tickets.sold / tickets.total)} of ${count(tickets.total)}`),
    tile('Revenue', money(revenue.net), back.length > 0 ? back.join(', ') : `in ${counted(orders, 'order')}`),
    tile('Held now', count(tickets.held), 'in checkout'),
    tile('Free', count(tickets.free)),
    tile('Checked in', count(inside), tickets.sold > 0 && percent(inside / tickets.sold)));
}

function levelTable(now) {
  return table({
    label: 'Sale by price level',
    rows: now.levels,
    key: ({ key }) => key,
    columns: [
      { label: 'Price level', main: true, cell: (one) => [h('span', { class: 'break strong' }, one.name), h('div', { class: 'muted' }, money(one.price))] },
      { label: 'Sold', numeric: true, cell: (one) => count(one.sold) },
      { label: 'Held', numeric: true, cell: (one) => count(one.held) },
      { label: 'Free', numeric: true, cell: (one) => count(one.free) },
      { label: 'Revenue', numeric: true, cell: (one) => money(one.revenue) },
      { label: '', wide: true, cell: (one) => h('div', { class: 'progress' }, progress(`${one.name} sold`, one.sold, one.total, false)) },
    ],
  });
}

/** The answer has hours with sales; the plot shows those without as well, the latest ones where there are too many. */
function everyHour(sold) {
  const known = new Map(sold.map((one) => [Date.parse(one.hour), one]));
  const last = Date.parse(sold[sold.length - 1].hour);
  const first = Math.max(Date.parse(sold[0].hour), last - (HOURS_SHOWN - 1) * HOUR_MS);
  const nothing = { amount: 0, currency: sold[0].revenue.currency };
  return Array.from({ length: (last - first) / HOUR_MS + 1 }, (_, index) => {
    const at = first + index * HOUR_MS;
    return known.get(at) ?? { hour: new Date(at).toISOString(), tickets: 0, revenue: nothing };
  });
}

function hours({ page, state, zones, feed }, { hours: sold }) {
  if (sold.length < 2) return null;
  const list = everyHour(sold);
  const zone = zones.of(feed.data.venue);
  const name = (iso) => `${leaf(iso, zone).day} ${leaf(iso, zone).month} ${when(iso, zone).slice(-5)}`;
  const at = Math.min(state.selected ?? list.length - 1, list.length - 1);
  return h('figure', { class: 'card figure' },
    h('figcaption', null, h('span', { class: 'figure-title' }, 'Tickets sold by hour'),
      h('span', { class: 'figure-value' }, `${name(list[at].hour)}: ${counted(list[at].tickets, 'ticket')}, ${money(list[at].revenue)}`)),
    plot({
      label: `Tickets sold by hour. Latest: ${counted(list[list.length - 1].tickets, 'ticket')}. Arrow keys move between hours.`,
      width: Math.max(240, page.width - 30), times: list.map(({ hour }) => name(hour)), whole: true, format: (value) => compact(value),
      series: [{ name: 'Tickets', kind: 'bar', values: list.map(({ tickets }) => tickets), style: 1 }],
      cursor: { selected: state.selected, select: (index) => { state.selected = index; page.render(); } },
    }));
}

function waitingRoom({ page, id, state, line: control, feed }, data) {
  const line = control.data;
  const mode = line?.mode ?? data.queue.mode;
  const change = async (what, words) => {
    state.problem = null;
    try {
      await send(path('event', id, 'queue', 'control'), what);
      toast(words);
      control.refresh();
      feed.refresh();
    } catch (problem) {
      state.problem = problem;
    }
    page.render();
  };
  return section('Waiting room', h('div', { class: 'card stack-small' },
    mode === 'off'
      ? h('p', { class: 'muted' }, 'Off: everyone may take seats at once.')
      : [line && facts([
        ['Phase', !line.active ? 'nobody has to wait' : line.phase === 'before' ? 'before the doors open' : 'open'],
        ['Waiting', count(line.waiting)],
        ['Inside', `${count(line.inside)} of ${count(line.max_inside)}`],
        ['Now serving', count(line.serving)],
        ['Let in a minute', line.admit_per_minute === null ? `as many as fit${line.rate_per_minute === null ? '' : `, now ${count(line.rate_per_minute)}`}` : count(line.admit_per_minute)],
        ['Arriving a second', count(line.arrivals_per_second)],
        line.empty_in_s !== null && ['All in within', duration(line.empty_in_s)],
      ]), line?.paused && banner({ tone: 'warn', title: 'Paused', text: 'Nobody is let in until you go on. Those inside may finish.' })],
    h('div', { class: 'actions' },
      mode === 'off' ? button('Switch on', () => change({ mode: 'on' }, 'The waiting room is on.')) : [
        line?.paused ? button('Go on', () => change({ paused: false }, 'People are let in again.'), { kind: 'primary', shape: 'play' }) : button('Pause', () => change({ paused: true }, 'Paused: nobody is let in.'), { shape: 'stop' }),
        button('Change the rate', () => rateDialog(line, change)),
        button('Switch off', () => change({ mode: 'off' }, 'The waiting room is off.')),
      ])));
}

function rateDialog(line, change) {
  const form = { perMinute: line?.admit_per_minute ? String(line.admit_per_minute) : '', maxInside: line ? String(line.max_inside) : '' };
  const number = (value) => value.trim() === '' || /^[1-9]\d{0,6}$/.test(value.trim());
  openDialog({
    title: 'How fast people are let in',
    confirm: 'Change',
    check: () => (!number(form.perMinute) || !number(form.maxInside) ? 'Whole numbers, please.' : null),
    submit: () => change({ admit_per_minute: Number(form.perMinute || 0), ...(form.maxInside && { max_inside: Number(form.maxInside) }) }, 'The rate has changed.'),
    view: (redraw) => h('div', { class: 'fields' },
      text({ render: redraw }, form, 'perMinute', 'People a minute', { note: 'as many as fit if empty', inputmode: 'numeric' }),
      text({ render: redraw }, form, 'maxInside', 'Inside at a time, at most', { inputmode: 'numeric' })),
  });
}

function promoCodes({ promos }, data) {
  const list = promos.data?.items ?? [];
  return section('Promo codes', [
    promos.data && (list.length === 0
      ? h('p', { class: 'muted' }, 'None yet.')
      : table({
        label: 'Promo codes',
        rows: list,
        key: ({ code }) => code,
        columns: [
          { label: 'Code', main: true, cell: ({ code }) => h('code', { class: 'break' }, code) },
          { label: 'Takes off', cell: ({ discount }) => (discount.basis_points ? `${discount.basis_points / 100} %` : money({ amount: discount.amount, currency: data.currency })) },
          { label: 'Used', numeric: true, cell: (one) => [count(one.uses), one.max_uses !== null && ` of ${count(one.max_uses)}`] },
        ],
      })),
  ], { beside: button('New promo code', () => promoDialog(data, promos), { kind: 'small', shape: 'plus' }) });
}

function promoDialog(data, promos) {
  const form = { code: '', percent: '10', uses: '' };
  openDialog({
    title: 'New promo code',
    confirm: 'Create',
    check: () => {
      if (!/^[A-Za-z0-9_-]{3,40}$/.test(form.code.trim())) return 'A code has 3 to 40 letters, digits, dashes or underscores.';
      if (!/^\d{1,3}$/.test(form.percent.trim()) || Number(form.percent) < 1 || Number(form.percent) > 100) return 'It takes off 1 to 100 percent.';
      return form.uses === '' || /^[1-9]\d{0,6}$/.test(form.uses.trim()) ? null : 'Uses: a whole number, or nothing.';
    },
    submit: async () => {
      await send(path('organiser', 'events', data.id, 'promo-codes'), { code: form.code.trim(), discount: { basis_points: Number(form.percent) * 100 }, ...(form.uses && { max_uses: Number(form.uses) }) });
      promos.refresh();
    },
    view: (redraw) => h('div', { class: 'fields' },
      text({ render: redraw }, form, 'code', 'Code', { placeholder: 'EARLY' }),
      text({ render: redraw }, form, 'percent', 'Percent off', { inputmode: 'numeric' }),
      text({ render: redraw }, form, 'uses', 'Uses', { note: 'any number if empty', inputmode: 'numeric' })),
  });
}
