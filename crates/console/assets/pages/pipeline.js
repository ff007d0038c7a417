// Ingest › one pipeline: its agreement (schedule, SLA, owner), its resources and runs, its files, its schema.

import { get, path } from '../api.js';
import { pipelineLink, refusal, runButtons } from '../actions.js';
import { h } from '../dom.js';
import { bytes, count, counted, duration } from '../format.js';
import { Pages } from '../live.js';
import { badge, banner, empty, facts, heading, isMissing, loading, moment, morePages, section, table, troubles } from '../parts.js';
import { runList, runTable } from './runs.js';

const TABS = [['', 'Overview'], ['files', 'Files'], ['schema', 'Schema'], ['quality', 'Quality']];
const FILES_PER_PAGE = 50;

export function pipeline(page) {
  const { name, tab = '' } = page.params;
  page.title(name);
  const feed = page.feed((signal) => get(path('ingest', 'pipelines', name), signal), 2000);
  const content = { '': overview, files, schema }[tab]?.(page, name);
  page.view = () => {
    if (isMissing(feed)) return missingPipeline(name);
    return [
      pipelineHeading(page, feed, name, tab),
      troubles(feed),
      refusal(page),
      feed.waiting && loading(4),
      feed.data && (content ? content(feed.data) : empty('No such page', 'A pipeline has an overview, files, a schema and its quality.')),
    ];
  };
}

export function missingPipeline(name) {
  return [
    heading({ title: name, crumbs: [['Ingest', '#/ingest/pipelines'], ['Pipelines', '#/ingest/pipelines']] }),
    empty('No such pipeline', `Nothing called “${name}” runs here. It may have been renamed, or its file removed.`, h('a', { class: 'button', href: '#/ingest/pipelines' }, 'To the pipelines')),
  ];
}

/** Name, state, buttons and tabs: the same on every page of a pipeline. */
export function pipelineHeading(page, feed, name, tab) {
  const data = feed.data;
  return [
    heading({
      title: name,
      crumbs: [['Ingest', '#/ingest/pipelines'], ['Pipelines', '#/ingest/pipelines']],
      beside: data && [badge(data.status), data.sla_status && badge(data.sla_status)],
      actions: data && runButtons(data, page, () => feed.refresh()),
      under: data && [data.owner ? `Owned by ${data.owner}` : 'No owner', data.consumers?.length > 0 && ` · used by ${data.consumers.join(', ')}`],
    }),
    h('nav', { class: 'tabs', 'aria-label': 'Pipeline' }, h('ul', null, TABS.map(([key, text]) =>
      h('li', { key: text }, h('a', { href: pipelineLink(name, ...(key ? [key] : [])), 'aria-current': key === tab ? 'page' : undefined }, text))))),
  ];
}

function overview(page, name) {
  const list = runList(page, () => ({ pipeline: name }));
  return (data) => [
    lastFailure(data),
    facts([
      ['Schedule', data.schedule ? h('code', null, data.schedule) : 'by hand'],
      ['Next run', data.next_run_at ? moment(data.next_run_at) : null],
      ['SLA', sla(data.sla)],
      ['Last run', data.last_run ? moment(data.last_run.finished_at ?? data.last_run.started_at) : 'never'],
      ['Format', data.format],
      ['Destination', h('code', { class: 'break' }, data.destination)],
      ['Changed', moment(data.updated_at)],
    ]),
    resources(data),
    section('Runs', [
      troubles(list.first),
      list.first.waiting && loading(3),
      list.first.data && (list.items.length === 0 ? empty('Never ran', 'Press “Run now”, or wait for the schedule.') : [runTable(list.items), morePages(list)]),
    ]),
  ];
}

function lastFailure({ last_run: run, name, error }) {
  if (error) return banner({ title: 'The pipeline file cannot be used', text: error.detail, code: error });
  if (run?.status === 'failed' && run.error) {
    return banner({ title: 'The last run failed', text: run.error.detail, code: run.error, action: h('a', { class: 'button small', href: `#${path('ingest', 'runs', run.id)}` }, 'See the run') });
  }
  if (run?.status === 'gate_failed') {
    return banner({ title: 'The last run broke a quality rule', text: run.error?.detail, code: run.error ?? {}, action: h('a', { class: 'button small', href: pipelineLink(name, 'quality') }, 'See quality') });
  }
  return null;
}

function sla(agreed) {
  if (!agreed) return 'none';
  const parts = [
    agreed.fresh_within_s !== null && agreed.fresh_within_s !== undefined && `fresh within ${duration(agreed.fresh_within_s)}`,
    agreed.ready_by && `ready by ${agreed.ready_by}${agreed.timezone ? ` ${agreed.timezone}` : ''}`,
  ].filter(Boolean);
  return parts.length ? parts.join(', ') : 'none';
}

function resources(data) {
  return section('Resources', data.resources.length === 0
    ? empty('No resources', 'The pipeline file names none, so there is nothing to read.')
    : table({
      label: 'Resources',
      rows: data.resources,
      key: ({ name }) => name,
      columns: [
        { label: 'Resource', main: true, cell: ({ name }) => h('a', { class: 'break', href: qualityLink(data.name, name) }, name) },
        { label: 'Rows', numeric: true, cell: ({ rows }) => count(rows) },
        { label: 'Write', cell: ({ write }) => write },
        { label: 'Primary key', cell: ({ primary_key: keys }) => (keys?.length ? h('code', { class: 'break' }, keys.join(', ')) : h('span', { class: 'muted' }, 'none')) },
        { label: 'Cursor', cell: ({ cursor }) => (cursor ? h('code', { class: 'break' }, cursor) : h('span', { class: 'muted' }, 'none')) },
        { label: 'Schema', numeric: true, cell: ({ schema_version: version }) => (version === null || version === undefined ? h('span', { class: 'muted' }, 'not yet') : h('a', { href: pipelineLink(data.name, 'schema') }, `v${version}`)) },
      ],
    }), { beside: h('span', { class: 'muted' }, counted(data.resources.length, 'resource')) });
}

export function qualityLink(pipelineName, resource) {
  return `${pipelineLink(pipelineName, 'quality')}?${new URLSearchParams({ resource })}`;
}

function files(page, name) {
  const load = (cursor, signal) => get(`${path('ingest', 'pipelines', name, 'files')}?${new URLSearchParams({ limit: FILES_PER_PAGE, ...(cursor ? { cursor } : {}) })}`, signal);
  const first = page.feed((signal) => load(null, signal), 5000);
  const list = new Pages(first, ({ path: file }) => file, (cursor) => load(cursor), () => page.render());
  return () => section('Files', [
    troubles(first),
    first.waiting && loading(5),
    first.data && (list.items.length === 0
      ? empty('No files yet', 'Files appear when a run commits.')
      : [fileTable(list.items), morePages(list)]),
  ], { note: 'What the lake holds, newest commit first. Only committed files count.' });
}

function fileTable(rows) {
  const range = ({ min_cursor: from, max_cursor: to }) => (from || to ? [cursor(from), ' to ', cursor(to)] : h('span', { class: 'muted' }, 'none'));
  return table({
    label: 'Files',
    rows,
    key: ({ path: file }) => file,
    columns: [
      { label: 'File', main: true, cell: (file) => [h('div', null, file.resource), h('code', { class: 'break muted' }, file.path)] },
      { label: 'Rows', numeric: true, cell: (file) => count(file.rows) },
      { label: 'Size', numeric: true, cell: (file) => bytes(file.bytes) },
      { label: 'Cursor range', wide: true, cell: range },
      { label: 'Committed', cell: (file) => h('a', { href: `#${path('ingest', 'runs', file.run_id)}` }, moment(file.committed_at)) },
    ],
  });
}

/** A cursor is often a time, and then shorter as one; anything else is shown as it is. */
function cursor(value) {
  if (value === null || value === undefined) return '…';
  return /^\d{4}-\d\d-\d\dT/.test(value) ? h('span', { class: 'nowrap' }, moment(value, { exact: true })) : h('code', { class: 'break' }, value);
}

function schema(page, name) {
  const feed = page.feed((signal) => get(path('ingest', 'pipelines', name, 'schema'), signal), 10_000);
  return () => [
    troubles(feed),
    feed.waiting && loading(5),
    feed.data && (feed.data.resources.length === 0
      ? empty('No schema yet', 'It is learned from the first pages of the first run.')
      : feed.data.resources.map((resource) => h('div', { key: resource.name }, section(resource.name, columnsTable(resource),
        { beside: h('span', { class: 'muted' }, `version ${resource.version} · ${counted(resource.columns.length, 'column')}`) })))),
  ];
}

function columnsTable({ name, columns }) {
  return table({
    label: `Columns of ${name}`,
    rows: columns,
    key: (column) => column.name,
    columns: [
      { label: 'Column', main: true, cell: (column) => h('code', { class: 'break' }, column.name) },
      { label: 'Type', wide: true, cell: (column) => h('code', { class: 'break' }, column.type) },
      { label: 'Null', cell: (column) => h('span', { class: column.nullable ? 'nowrap' : 'nowrap muted' }, column.nullable ? 'may be null' : 'never') },
    ],
  });
}
