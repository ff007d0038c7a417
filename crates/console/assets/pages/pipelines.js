// Ingest › Pipelines: all of them, what state they are in, and the two buttons to set them going.

import { get, withQuery } from '../api.js';
import { pipelineLink, refusal, runButtons, runLink } from '../actions.js';
import { h } from '../dom.js';
import { counted, duration, NONE, secondsBetween } from '../format.js';
import { badge, choices, empty, heading, loading, moment, table, troubles } from '../parts.js';

/** More pipelines than this are not read: the list would be too long to look at, and the polling too heavy. */
const MOST_PAGES = 10;
const PER_PAGE = 100;

/** All pipelines, page by page. */
export async function everyPipeline(signal) {
  const items = [];
  let cursor = null;
  for (let pages = 0; pages < MOST_PAGES; pages += 1) {
    const page = await get(withQuery('/ingest/pipelines', { limit: PER_PAGE, cursor }), signal);
    items.push(...page.items);
    cursor = page.next_cursor ?? null;
    if (cursor === null) break;
  }
  return { items, more: cursor !== null };
}

export function needsAttention({ status, sla_status }) {
  return ['failed', 'gate_failed', 'late'].includes(status) || sla_status === 'missed';
}

const KINDS = {
  all: ['All', () => true],
  running: ['Running', ({ status }) => status === 'running'],
  attention: ['Need attention', needsAttention],
};

export function pipelines(page) {
  page.title('Pipelines');
  const list = page.feed(everyPipeline, 2000);
  page.view = () => [
    heading({ title: 'Pipelines', crumbs: [['Ingest', '#/ingest/pipelines']] }),
    notServed(list) ?? troubles(list),
    refusal(page),
    list.waiting && loading(6),
    list.data && (list.data.items.length === 0
      ? empty('No pipelines yet', 'Put a pipeline file into the folder that ingest watches, and it appears here. `tessera ingest init URL` drafts one from an API.')
      : [toolbar(page, list.data.items), chosen(page, list)]),
  ];
}

/** The console can run where ingest does not: say so, instead of "not found". */
function notServed(list) {
  if (list.data !== null || list.problem?.status !== 404) return null;
  return empty('Ingest does not answer here', `No ingest API behind ${location.host}. Start one with \`tessera up\`, or open the console through the gateway that knows it.`);
}

function toolbar(page, items) {
  const show = kind(page);
  return h('div', { class: 'toolbar' },
    choices('Show', Object.entries(KINDS).map(([name, [text, wanted]]) => [name, `${text} ${items.filter(wanted).length}`]), show,
      (name) => page.choose('show', name === 'all' ? null : name)),
    h('label', { class: 'search' }, h('span', { class: 'hidden' }, 'Filter by name or owner'),
      h('input', { type: 'search', placeholder: 'Filter by name or owner', value: page.query.get('filter') ?? '', oninput: (event) => page.choose('filter', event.target.value) })));
}

function kind(page) {
  const name = page.query.get('show');
  return Object.hasOwn(KINDS, name ?? '') ? name : 'all';
}

function chosen(page, list) {
  const text = (page.query.get('filter') ?? '').trim().toLowerCase();
  const rows = list.data.items
    .filter(KINDS[kind(page)][1])
    .filter(({ name, owner }) => `${name} ${owner}`.toLowerCase().includes(text));
  if (rows.length === 0) return empty('None match', 'No pipeline fits what is chosen above.');
  return [
    pipelineTable(page, rows, () => list.refresh()),
    list.data.more && h('p', { class: 'note' }, `Only the first ${counted(list.data.items.length, 'pipeline')} are shown. All are in the API.`),
  ];
}

function pipelineTable(page, rows, refresh) {
  return table({
    label: 'Pipelines',
    rows,
    key: ({ name }) => name,
    columns: [
      { label: 'Pipeline', main: true, cell: (one) => [h('a', { class: 'break strong', href: pipelineLink(one.name) }, one.name), h('div', { class: 'muted break' }, one.owner)] },
      { label: 'Status and SLA', cell: ({ status, sla_status }) => h('div', { class: 'badges' }, badge(status), sla_status ? badge(sla_status) : h('span', { class: 'muted' }, 'no SLA')) },
      { label: 'Schedule', cell: (one) => [one.schedule ? h('code', { class: 'nowrap' }, one.schedule) : h('span', { class: 'muted' }, 'by hand'), one.next_run_at && h('div', { class: 'muted nowrap' }, 'next ', moment(one.next_run_at))] },
      { label: 'Last run', wide: true, cell: ({ last_run }) => lastRun(last_run) },
      { label: '', wide: true, cell: (one) => h('div', { class: 'actions' }, runButtons(one, page, refresh, 'small')) },
    ],
  });
}

function lastRun(run) {
  if (!run) return h('span', { class: 'muted' }, 'never');
  return [
    h('span', { class: 'nowrap' }, h('a', { href: runLink(run.id) }, run.status === 'running' ? 'now' : moment(run.finished_at ?? run.started_at)), `, ${run.run_type}`),
    h('div', { class: 'muted nowrap' }, `${counted(run.rows, 'row')} in ${took(run)}`),
  ];
}

/** How long a run took; for one that is not over, how long it has been going. */
export function took(run) {
  if (!run.started_at) return NONE;
  return duration(secondsBetween(run.started_at, run.finished_at ?? run.updated_at));
}
