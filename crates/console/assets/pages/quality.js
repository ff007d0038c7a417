// Ingest › Quality of one pipeline: what each run brought, drawn and as a table. One run can be selected (pointer or arrow
// keys) and is then shown in all plots at once.

import { get, path, serverNow } from '../api.js';
import { refusal, runLink } from '../actions.js';
import { h } from '../dom.js';
import { download } from '../download.js';
import { compact, count, counted, duration, NONE, percent, shortDuration, stamp } from '../format.js';
import { badge, button, choices, empty, isMissing, loading, mark, section, table, troubles } from '../parts.js';
import { legend, plot, shareStrip } from '../plot.js';
import { missingPipeline, pipelineHeading, qualityLink } from './pipeline.js';

const WINDOWS = [['30', 'Last 30'], ['90', 'Last 90'], ['all', 'All']];
const SEVERITY = ['failed', 'quarantined', 'warned', 'passed'];
const CHECK_RUNS = 12;
const GAP = 12;
const CARD_PADDING = 14;

export function quality(page) {
  const { name } = page.params;
  page.title(`${name} quality`);
  const about = page.feed((signal) => get(path('ingest', 'pipelines', name), signal), 5000);
  const feed = page.feed((signal) => get(path('ingest', 'pipelines', name, 'quality'), signal), 5000);
  const state = { selected: null, select: (index) => {
    if (state.selected === index) return;
    state.selected = index;
    page.render();
  } };
  page.view = () => {
    if (isMissing(about)) return missingPipeline(name);
    return [
      pipelineHeading(page, about, name, 'quality'),
      troubles(about, feed),
      refusal(page),
      feed.waiting && loading(6),
      feed.data && content(page, name, feed.data, about.data, state),
    ];
  };
}

function content(page, name, data, pipeline, state) {
  const known = data.resources.filter(({ history }) => history.length > 0);
  if (known.length === 0) return empty('Nothing measured yet', 'Quality is measured in every run, so the first numbers come with the first run.');
  const resource = known.find((one) => one.name === page.query.get('resource')) ?? known[0];
  const wanted = page.query.get('runs') ?? '30';
  const history = wanted === 'all' ? resource.history : resource.history.slice(-(Number(wanted) || 30));
  if (state.selected !== null && state.selected >= history.length) state.selected = null;
  const freshWithin = pipeline?.sla?.fresh_within_s ?? null;
  return h('div', { class: 'stack', key: resource.name },
    known.length > 1 && h('nav', { class: 'pills', 'aria-label': 'Resource' }, h('ul', null, known.map((one) =>
      h('li', { key: one.name }, h('a', { href: qualityLink(name, one.name), 'aria-current': one === resource ? 'true' : undefined },
        mark(worst(one.history.at(-1))), h('span', { class: 'break' }, one.name)))))),
    h('div', { class: 'toolbar' },
      selection(history, state),
      h('div', { class: 'actions' },
        choices('Runs shown', WINDOWS, wanted, (value) => { state.selected = null; page.choose('runs', value === '30' ? null : value); }),
        button('Save as a page', () => download(path('ingest', 'pipelines', name, 'quality.html'), `${name}-quality.html`), { kind: 'small' }))),
    plots(page, history, freshWithin, state),
    nulls(history, state),
    checks(history),
    historyTable(history));
}

/** The run that the plots show: the selected one, else the last. */
function selection(history, { selected }) {
  const run = history[selected ?? history.length - 1];
  return h('p', { class: 'selection', 'aria-live': 'polite' },
    h('strong', null, selected === null ? 'Last run ' : 'Run of '),
    h('a', { href: runLink(run.run_id) }, stamp(run.at, serverNow())),
    ` · ${counted(run.rows, 'row')} · `, badge(worst(run)));
}

/** The worst result among a run's checks. */
function worst({ checks }) {
  return SEVERITY.find((status) => checks.some((check) => check.status === status)) ?? 'unchecked';
}

function plots(page, history, freshWithin, state) {
  const columns = page.width >= 1040 ? 3 : page.width >= 660 ? 2 : 1;
  const width = Math.max(200, Math.floor((page.width - GAP * (columns - 1)) / columns) - 2 * CARD_PADDING - 2);
  const now = serverNow();
  const times = history.map(({ at }) => stamp(at, now, { seconds: false }));
  const changes = history.map(({ schema_changes: texts }, index) => ({ index, text: `${times[index]}: ${(texts ?? []).join('; ')}`, any: (texts ?? []).length > 0 })).filter(({ any }) => any);
  const shown = { width, times, cursor: state };
  const of = (field) => history.map((run) => run[field] ?? null);
  return h('div', { class: 'plots', style: { 'grid-template-columns': `repeat(${columns}, minmax(0, 1fr))` } },
    figure('Rows per run', shown, { series: [{ name: 'Rows', kind: 'bar', values: of('rows') }], marks: changes, format: compact, say: count, whole: true, headline: reconciled(of), note: changes.length > 0 && `◆ schema change (${changes.length})` }),
    figure('Rows in the lake', shown, { series: [{ name: 'In the lake', kind: 'line', values: of('rows_total'), style: 1 }], format: compact, say: count, zero: false, whole: true }),
    figure('Lag behind the source', shown, {
      series: [{ name: 'Lag', kind: 'line', values: of('lag_s'), style: 1 }], format: shortDuration, say: duration, seconds: true,
      limit: freshWithin === null ? null : { value: freshWithin, name: `SLA ${shortDuration(freshWithin)}` },
      nothing: 'This resource has no cursor that is a time, so its lag is unknown.',
    }),
    figure('Duplicate keys', shown, { series: [{ name: 'Duplicates', kind: 'bar', values: of('duplicates'), style: 2 }], format: compact, say: count, whole: true }),
    figure('Set aside', shown, {
      series: [{ name: 'Rescued values', kind: 'line', values: of('rescued'), style: 3, shape: 'triangle' }, { name: 'Quarantined rows', kind: 'line', values: of('quarantined'), style: 2, shape: 'square' }],
      format: compact, say: count, whole: true,
    }),
    schemaChanges(history, changes));
}

/** The rows of a run beside the API's own total, which counts what that run asked for, not what the lake holds. */
function reconciled(of) {
  const rows = of('rows');
  const expected = of('expected_rows');
  return (index) => {
    if (expected[index] === null) return count(rows[index]);
    return expected[index] === rows[index] ? `${count(rows[index])}, as the API says` : `${count(rows[index])}, the API says ${count(expected[index])}`;
  };
}

function figure(title, { width, times, cursor }, { series, format, say, note, nothing, headline, limit = null, ...options }) {
  const at = cursor.selected ?? times.length - 1;
  const says = headline ?? ((index) => series.map(({ name, values }) => (series.length > 1 ? `${name} ${say(values[index])}` : say(values[index]))).join(', '));
  const blank = series.every(({ values }) => values.every((value) => value === null));
  const fitting = limit && series[0].values.some((value) => value !== null) ? limit : null;
  return h('figure', { class: 'card figure', key: title },
    h('figcaption', null, h('span', { class: 'figure-title' }, title), h('span', { class: 'figure-value' }, blank ? NONE : says(at))),
    blank ? h('p', { class: 'figure-blank' }, nothing ?? 'No values in these runs.')
      : [
        plot({ ...options, series, format, limit: fitting, width, times, cursor, label: `${title}, ${counted(times.length, 'run')}. Latest: ${says(times.length - 1)}. Arrow keys move between runs.` }),
        (series.length > 1 || note) && h('div', { class: 'figure-foot' }, series.length > 1 && legend(series), note && h('span', { class: 'event-note' }, note)),
      ]);
}

function schemaChanges(history, changes) {
  return h('figure', { class: 'card figure', key: 'schema' },
    h('figcaption', null, h('span', { class: 'figure-title' }, 'Schema changes'), h('span', { class: 'figure-value' }, String(changes.length))),
    changes.length === 0 ? h('p', { class: 'figure-blank' }, 'The columns stayed the same in all these runs.')
      : h('ol', { class: 'change-list', tabindex: '0', 'aria-label': 'Schema changes, newest first' }, changes.toReversed().map(({ index }) =>
        h('li', { key: history[index].run_id }, h('a', { href: runLink(history[index].run_id) }, stamp(history[index].at, serverNow(), { seconds: false })),
          history[index].schema_changes.map((text, position) => h('div', { key: position, class: 'break' }, text))))));
}

function nulls(history, { selected }) {
  const at = selected ?? history.length - 1;
  const names = [...new Set(history.flatMap((run) => Object.keys(run.nulls ?? {})))];
  const share = (run, name) => (run.rows > 0 && run.nulls?.[name] !== undefined ? run.nulls[name] / run.rows : null);
  const columns = names.map((name) => ({ name, shares: history.map((run) => share(run, name)) }))
    .map((column) => ({ ...column, peak: Math.max(0, ...column.shares.filter((value) => value !== null)) }))
    .sort((a, b) => (b.shares.at(-1) ?? 0) - (a.shares.at(-1) ?? 0) || b.peak - a.peak || a.name.localeCompare(b.name));
  const withNulls = columns.filter(({ peak }) => peak > 0);
  const without = columns.length - withNulls.length;
  return section('Nulls by column', names.length === 0
    ? empty('Not measured', 'These runs brought no rows.')
    : [
      withNulls.length === 0 && h('p', { class: 'note' }, 'No column has a null in these runs.'),
      h('ul', { class: 'null-list' }, withNulls.map(({ name, shares }) => h('li', { key: name },
        h('code', { class: 'break' }, name),
        shareStrip(shares, { selected, label: `${name}: ${percent(shares[at])} null in the run shown, ${percent(shares[0])} in the first` }),
        h('span', { class: 'null-share' }, percent(shares[at]))))),
      withNulls.length > 0 && nullTable(history, withNulls),
      withNulls.length > 0 && without > 0 && h('p', { class: 'note' }, `${counted(without, 'more column')} without nulls.`),
    ], { note: 'Share of each run’s rows, oldest run on the left.' });
}

function nullTable(history, columns) {
  return h('details', { class: 'note' }, h('summary', null, 'Nulls as a table'),
    h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Nulls by run, scrolls sideways' },
      h('table', { class: 'table fixed' },
        h('thead', null, h('tr', null, h('th', { scope: 'col' }, 'Run'), h('th', { scope: 'col', class: 'numeric' }, 'Rows'),
          columns.map(({ name }) => h('th', { scope: 'col', class: 'numeric', key: name }, name)))),
        h('tbody', null, history.toReversed().map((run) => h('tr', { key: run.run_id },
          h('th', { scope: 'row', class: 'nowrap' }, stamp(run.at, serverNow())), h('td', { class: 'numeric' }, count(run.rows)),
          columns.map(({ name }) => h('td', { class: 'numeric', key: name }, count(run.nulls?.[name])))))))));
}

function checks(history) {
  const recent = history.slice(-CHECK_RUNS);
  const rules = new Map();
  for (const run of recent) {
    for (const check of run.checks) rules.set(`${check.rule} ${check.column ?? ''}`, { rule: check.rule, column: check.column });
  }
  const find = (run, { rule, column }) => run.checks.find((check) => check.rule === rule && (check.column ?? null) === (column ?? null));
  const rows = [...rules.values()].map((rule) => ({ ...rule, results: recent.map((run) => [run, find(run, rule)]) }));
  const latest = ({ results }) => results.findLast(([, check]) => check)[1];
  return section('Checks', rows.length === 0
    ? empty('No rules', 'Add rules under `quality:` in the pipeline file: unique, not_null, fresh_within, min_rows and others.')
    : table({
      label: 'Checks',
      rows,
      key: ({ rule, column }) => `${rule} ${column ?? ''}`,
      columns: [
        { label: 'Rule', main: true, cell: ({ rule, column }) => [h('code', { class: 'break' }, rule), column && [' on ', h('code', { class: 'break' }, column)]] },
        { label: 'Latest', cell: (row) => badge(latest(row).status) },
        { label: 'Bad rows', numeric: true, cell: (row) => count(latest(row).bad_rows) },
        { label: 'Detail', wide: true, cell: (row) => h('span', { class: 'break' }, latest(row).detail || NONE) },
        { label: recent.length === 1 ? 'Last run' : `Last ${counted(recent.length, 'run')}`, wide: true, cell: ({ results }) => h('span', { class: 'marks' }, results.map(([run, check]) =>
          (check ? mark(check.status, `${stamp(run.at, serverNow())}: ${check.status}, ${counted(check.bad_rows, 'bad row')}`) : h('span', { class: 'mark muted', title: 'not checked' }, '·')))) },
      ],
    }));
}

function historyTable(history) {
  const rows = history.toReversed();
  return section('History', h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'History, scrolls sideways' },
    h('table', { class: 'table fixed' },
      h('thead', null, h('tr', null, [['Run'], ['Checks'], ['Rows', 1], ['In the lake', 1], ['API’s total', 1], ['Duplicates', 1], ['Lag', 1], ['Rescued', 1], ['Quarantined', 1], ['Schema changes']].map(([text, numeric]) =>
        h('th', { scope: 'col', key: text, class: numeric ? 'numeric' : undefined }, text)))),
      h('tbody', null, rows.map((run) => h('tr', { key: run.run_id },
        h('th', { scope: 'row' }, h('a', { class: 'nowrap', href: runLink(run.run_id) }, stamp(run.at, serverNow()))),
        h('td', null, badge(worst(run))),
        [run.rows, run.rows_total, run.expected_rows, run.duplicates].map((value, index) => h('td', { class: 'numeric', key: index }, count(value))),
        h('td', { class: 'numeric nowrap' }, duration(run.lag_s)),
        [run.rescued, run.quarantined].map((value, index) => h('td', { class: 'numeric', key: `x${index}` }, count(value))),
        h('td', null, (run.schema_changes ?? []).join('; ') || NONE)))))),
  { note: 'The numbers that are drawn above, newest run first.' });
}
