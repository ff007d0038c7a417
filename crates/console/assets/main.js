// The shell: which page an address means, the navigation, the connection light. Addresses live in the fragment
// (`/#/ingest/pipelines/shop/quality?resource=orders`), so they can be bookmarked and need nothing of the server.

import { get } from './api.js';
import { draw, h } from './dom.js';
import { icon } from './icons.js';
import { Feed } from './live.js';
import { banner, button, empty, heading, toast } from './parts.js';
import { onSession, signOut, whoami } from './session.js';
import { gateway } from './gateway/gateway.js';
import { home } from './pages/home.js';
import { forOperators } from './pages/ingest-access.js';
import { pipeline } from './pages/pipeline.js';
import { pipelines } from './pages/pipelines.js';
import { quality } from './pages/quality.js';
import { run } from './pages/run.js';
import { runs } from './pages/runs.js';
import { account, authorize, signUpPage } from './pages/account.js';
import { signIn, signInEnd } from './pages/sign-in.js';
import { driver } from './rides/driver.js';
import { operator } from './rides/operator.js';
import { ride } from './rides/ride.js';
import { rider } from './rides/rider.js';
import { checkout } from './tickets/checkout.js';
import { door } from './tickets/door.js';
import { event } from './tickets/event.js';
import { order, orders } from './tickets/orders.js';
import { eventForm } from './tickets/organiser/event-form.js';
import { organiser } from './tickets/organiser/events.js';
import { manage } from './tickets/organiser/manage.js';
import { plans } from './tickets/organiser/plans.js';
import { venues } from './tickets/organiser/venues.js';
import { search } from './tickets/search.js';
import { waitingRoom } from './tickets/waiting-room.js';

const ROUTES = [
  ['', home, 'home'],
  ['ingest/pipelines', forOperators(pipelines, 'Pipelines'), 'pipelines'],
  ['ingest/pipelines/:name', forOperators(pipeline), 'pipelines'],
  ['ingest/pipelines/:name/quality', forOperators(quality), 'pipelines'],
  ['ingest/pipelines/:name/:tab', forOperators(pipeline), 'pipelines'],
  ['ingest/runs', forOperators(runs, 'Runs'), 'runs'],
  ['ingest/runs/:id', forOperators(run), 'runs'],
  ['tickets', search, 'search'],
  ['tickets/events/:id', event, 'search'],
  ['tickets/events/:id/waiting-room', waitingRoom, 'search'],
  ['tickets/checkout/:hold', checkout, 'search'],
  ['tickets/orders', orders, 'orders'],
  ['tickets/orders/:id', order, 'orders'],
  ['tickets/organiser', organiser, 'organiser'],
  ['tickets/organiser/venues', venues, 'organiser'],
  ['tickets/organiser/plans', plans, 'organiser'],
  ['tickets/organiser/new', eventForm, 'organiser'],
  ['tickets/organiser/events/:id', manage, 'organiser'],
  ['tickets/organiser/events/:id/edit', eventForm, 'organiser'],
  ['tickets/door', door, 'door'],
  ['rides', rider, 'rider'],
  ['rides/driver', driver, 'driver'],
  ['rides/operator', operator, 'operator'],
  ['rides/operator/rides/:id', ride, 'operator'],
  ['gateway', gateway, 'gateway'],
  ['sign-in', signIn, 'sign-in'],
  ['sign-in/end', signInEnd, 'sign-in'],
  ['sign-up', signUpPage, 'sign-in'],
  ['account', account, 'account'],
  ['authorize', authorize, 'account'],
];

const NAVIGATION = [
  { links: [['home', 'Home', '#/', 'home']] },
  { title: 'Ingest', role: 'ingest', links: [['pipelines', 'Pipelines', '#/ingest/pipelines', 'pipe'], ['runs', 'Runs', '#/ingest/runs', 'runs']] },
  {
    title: 'Tickets',
    role: 'tickets',
    links: [
      ['search', 'Events', '#/tickets', 'search'],
      ['orders', 'My tickets', '#/tickets/orders', 'ticket'],
      ['organiser', 'Organiser', '#/tickets/organiser', 'stage'],
      ['door', 'Door', '#/tickets/door', 'door'],
    ],
  },
  {
    title: 'Rides',
    role: 'rides',
    links: [
      ['rider', 'Ride', '#/rides', 'pin'],
      ['driver', 'Drive', '#/rides/driver', 'car'],
      ['operator', 'Operator', '#/rides/operator', 'map'],
    ],
  },
  { title: 'Gateway', role: 'gateway', links: [['gateway', 'Traffic', '#/gateway', 'gate']] },
];

/** As in base.css: the page grows no wider. */
const WIDEST = 1440;

const main = document.getElementById('main');
let page = null;
let stage = null;

/** One visit to one address: its feeds, its state, its view. */
class Page {
  constructor(address, params, query) {
    this.address = address;
    this.params = params;
    this.query = query;
    this.feeds = [];
    this.endings = [];
    this.busy = new Set();
    this.refused = null;
    this.view = () => null;
    this.closed = false;
    this.queued = false;
  }

  /** Starts polling; see `Feed`. */
  feed(load, every) {
    const feed = new Feed(load, every, (changed) => {
      light(changed);
      this.render();
    });
    this.feeds.push(feed);
    return feed;
  }

  /** What to end when the page is left: a stream, a camera, a timer. */
  closing(end) {
    this.endings.push(end);
  }

  /** Draws again every so often, for what counts down. */
  tick(everyMs) {
    const timer = setInterval(() => this.render(), everyMs);
    this.closing(() => clearInterval(timer));
  }

  title(text) {
    document.title = `${text} · Tessera`;
  }

  /** Width that content can use, in CSS pixels. */
  get width() {
    const style = getComputedStyle(main);
    return Math.min(WIDEST, main.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
  }

  /** Remembers a choice in the address without leaving the page. */
  choose(name, value) {
    if (value === null || value === '') this.query.delete(name);
    else this.query.set(name, value);
    const query = this.query.toString();
    history.replaceState(null, '', location.hash.split('?')[0] + (query ? `?${query}` : ''));
    this.render();
  }

  render() {
    if (this.queued || this.closed) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      if (!this.closed) show(() => this.view());
    });
  }

  close() {
    this.closed = true;
    for (const feed of this.feeds) feed.stop();
    for (const end of this.endings.splice(0)) end();
  }
}

/** A view that throws (an answer of an unexpected shape) becomes a message, not a blank page. */
function show(view) {
  try {
    draw(stage, view());
  } catch (cause) {
    console.error(cause);
    clear();
    draw(stage, banner({
      title: 'This page could not be drawn',
      text: `The server's answer does not have the expected shape (${cause.message}). Reload; if it stays, the console and the server may be of different versions.`,
      action: button('Reload', () => location.reload(), { kind: 'small' }),
    }));
    page.close();
  }
}

/** Nothing of the last page is mistaken for a part of the next. */
function clear() {
  stage = document.createElement('div');
  stage.className = 'stage';
  main.replaceChildren(stage);
}

function light(feed) {
  const status = feed.problem?.status;
  const trouble = status === 0 ? 'Not connected' : status >= 500 ? 'Server in trouble' : null;
  draw(document.getElementById('connection'), h('span', { class: trouble ? 'light light-down' : 'light' }, trouble ?? 'Live'));
}

function match(pattern, parts) {
  const wanted = pattern === '' ? [] : pattern.split('/');
  if (wanted.length !== parts.length) return null;
  const params = {};
  for (const [index, want] of wanted.entries()) {
    if (want.startsWith(':')) params[want.slice(1)] = parts[index];
    else if (want !== parts[index]) return null;
  }
  return params;
}

function parse(hash) {
  const [address, query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  try {
    return { parts: address.split('/').filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
  } catch {
    return { parts: ['?'], query: new URLSearchParams() };
  }
}

function notFound(opened) {
  opened.title('No such page');
  opened.view = () => [heading({ title: 'No such page' }),
    empty('There is no page at this address', 'It may be from another version of Tessera.', h('a', { class: 'button', href: '#/' }, 'Go home'))];
}

function open(first) {
  const { parts, query } = parse(location.hash);
  const address = parts.join('\n');
  if (page?.address === address && !page.closed) {
    page.query = query;
    page.render();
    return;
  }
  page?.close();
  let area = null;
  let build = notFound;
  let params = {};
  for (const [pattern, candidate, candidateArea] of ROUTES) {
    const found = match(pattern, parts);
    if (found) {
      [build, params, area] = [candidate, found, candidateArea];
      break;
    }
  }
  page = new Page(address, params, query);
  navigation(area);
  person();
  clear();
  build(page, parts);
  show(() => page.view());
  if (!first) {
    window.scrollTo(0, 0);
    document.getElementById('title')?.focus({ preventScroll: true });
  }
}

let components = null;

function navigation(area) {
  navigation.area = area;
  const runsHere = (role) => !components || components.some((component) => component.role === role || component.name.startsWith(role));
  draw(document.getElementById('nav'), NAVIGATION.filter(({ role }) => !role || runsHere(role)).map(({ title, links }) =>
    h('div', { class: area !== 'home' && links.every(([name]) => name !== area) ? 'nav-group nav-other' : 'nav-group', key: title ?? 'top' },
      title && h('p', { class: 'nav-title' }, title),
      h('ul', null, links.map(([name, text, href, shape]) =>
        h('li', { key: name }, h('a', { href, 'aria-current': name === area ? 'page' : undefined }, icon(shape), h('span', null, text))))))));
}

function notSignedOut(problem) {
  toast(`You are still signed in: ${problem.message}`);
}

function person() {
  const session = whoami();
  const here = location.hash.startsWith('#/sign-') ? '' : `?back=${encodeURIComponent(location.hash)}`;
  draw(document.getElementById('person'), session
    ? [h('a', { class: 'person-name break', href: '#/account', title: `${session.subject}, ${session.roles.join(', ')}` }, session.name, h('small', null, session.roles.join(', '))),
      h('a', { href: `#/sign-in${here}` }, 'Switch'), h('button', { type: 'button', class: 'plain', onclick: () => signOut().catch(notSignedOut) }, 'Sign out')]
    : h('a', { href: `#/sign-in${here}` }, 'Sign in'));
}

let known = whoami();

// Whose page it is has changed, and with it what the server answers. A new token of the same person changes nothing.
onSession(() => {
  const before = known;
  known = whoami();
  person();
  const same = before?.subject === known?.subject && String(before?.roles) === String(known?.roles);
  if (page && !same && !location.hash.startsWith('#/sign-')) {
    page.close();
    open(true);
  }
});

// An issuer sends people back with its answer before the fragment, where no page is.
const returned = new URLSearchParams(location.search);
if (returned.has('state')) history.replaceState(null, '', `/console/#/sign-in/end?${returned}`);

document.getElementById('skip').onclick = () => main.focus();
window.addEventListener('hashchange', () => open(false));
window.addEventListener('resize', () => page.render());
document.addEventListener('visibilitychange', () => page.feeds.forEach((feed) => feed.visibilityChanged()));
open(true);

// Products that do not run here leave the navigation; when this cannot be known, all stay.
get('/components').then((answer) => {
  components = answer.components;
  navigation(navigation.area);
}).catch(() => {});
