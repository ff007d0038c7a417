// Small drawings. Each state has its own shape, so that colour is never the only sign of it.

import { h } from './dom.js';

const stroke = (d) => () => h('path', { d, fill: 'none', stroke: 'currentColor', 'stroke-width': 2, 'stroke-linecap': 'round', 'stroke-linejoin': 'round' });
const solid = (d) => () => h('path', { d, fill: 'currentColor', 'fill-rule': 'evenodd' });

const SHAPES = {
  check: solid('M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Zm3.7 4.9-1.2-1.2-3.6 3.7-1.5-1.5-1.2 1.2 2.7 2.7Z'),
  cross: solid('M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1Zm.2 3.2L4.2 5.3 6.9 8l-2.7 2.7 1.1 1.1L8 9.1l2.7 2.7 1.1-1.1L9.1 8l2.7-2.7-1.1-1.1L8 6.9Z'),
  warning: solid('M8 1.2 15.4 14H.6Zm-.9 4.6.2 4h1.4l.2-4Zm.9 5a1 1 0 1 0 0 2 1 1 0 0 0 0-2Z'),
  diamond: solid('M8 .8 15.2 8 8 15.2.8 8Zm-.9 3.9.2 4.3h1.4l.2-4.3Zm.9 5.3a1 1 0 1 0 0 2 1 1 0 0 0 0-2Z'),
  dot: solid('M8 4.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7Z'),
  clock: solid('M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Zm-.9 2.8v4.8l3.6 2.1.9-1.4-2.8-1.6V3.8Z'),
  ring: stroke('M8 2.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11Z'),
  spin: stroke('M8 2.5a5.5 5.5 0 1 1-5.5 5.5'),
  dots: solid('M3 6.5a1.5 1.5 0 1 1 0 3 1.5 1.5 0 0 1 0-3Zm5 0a1.5 1.5 0 1 1 0 3 1.5 1.5 0 0 1 0-3Zm5 0a1.5 1.5 0 1 1 0 3 1.5 1.5 0 0 1 0-3Z'),
  stop: solid('M4 2.5h8A1.5 1.5 0 0 1 13.5 4v8a1.5 1.5 0 0 1-1.5 1.5H4A1.5 1.5 0 0 1 2.5 12V4A1.5 1.5 0 0 1 4 2.5Z'),
  home: stroke('m2.5 7.5 5.5-5 5.5 5M4 6.5v7h8v-7'),
  pipe: stroke('M2 4h4l4 8h4M12 10l2 2-2 2M2 12h3'),
  runs: stroke('M2.5 3.5h11M2.5 8h7M2.5 12.5h9'),
  play: solid('M4 2.2v11.6L13.5 8Z'),
  history: stroke('M2.5 8a5.5 5.5 0 1 0 1.7-4L2.5 5.5m0-3.5v3.5H6M8 5v3l2 1.5'),
  plus: stroke('M8 3v10M3 8h10'),
  minus: stroke('M3 8h10'),
  search: stroke('M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9Zm3.4 7.9 3.1 3.1'),
  ticket: stroke('M2 4.5h12v2.2a1.4 1.4 0 0 0 0 2.7v2.1H2V9.4a1.4 1.4 0 0 0 0-2.7ZM10 4.5v7'),
  stage: stroke('M2 3h12v4.5c-2 0-3-1-3.5-2C10 7 9 8 8 8S6 7 5.5 5.5C5 6.5 4 7.5 2 7.5ZM4 13.5h8'),
  door: stroke('M4 14V2.5h8V14M2.5 14h11M9.5 8v.5'),
  pin: stroke('M8 14S3.5 9.5 3.5 6.5a4.5 4.5 0 0 1 9 0C12.5 9.5 8 14 8 14ZM8 6v1'),
  car: stroke('M2 11.5V8.2l1.6-.7 1.3-3h6.2l1.3 3 1.6.7v3.3ZM4.5 11.5V13M11.5 11.5V13M4.8 7.5h6.4'),
  map: stroke('M2 4l4-1.5 4 1.5 4-1.5v9.5l-4 1.5-4-1.5-4 1.5ZM6 2.5V12M10 4v9.5'),
  gate: stroke('M2.5 13.5v-11M13.5 13.5v-11M2.5 5h11M2.5 9h4M9.5 9h4'),
  camera: stroke('M2 5h3l1-2h4l1 2h3v8H2ZM8 6.5a2.3 2.3 0 1 1 0 4.6 2.3 2.3 0 0 1 0-4.6'),
};

/** An icon that says nothing by itself; the text beside it does. */
export function icon(name) {
  return h('svg', { class: `icon icon-${name}`, viewBox: '0 0 16 16', width: 16, height: 16, 'aria-hidden': 'true', focusable: 'false' }, SHAPES[name]());
}
