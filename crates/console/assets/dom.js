// Draws pages. A view returns a description of what should be there (`h`), and `draw` changes only what differs, so a page
// that refreshes every second keeps focus, selection and scroll. Text is only ever a text node: nothing here parses HTML.

const SVG = 'http://www.w3.org/2000/svg';
const PROPERTIES = new Set(['value', 'checked', 'selected']);

/**
 * Describes an element. `key` keeps its identity among siblings; `on…` are handlers; `style` is an object; `ref` is called
 * once with the element, for what draws itself (a canvas, a video).
 */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: describe(children), dom: null };
}

const drawn = new WeakMap();

/** Makes `container` show `content` (a description, text, or nested arrays of them). */
export function draw(container, content) {
  const next = describe([content]);
  reconcile(container, drawn.get(container) ?? [], next, container.namespaceURI === SVG);
  drawn.set(container, next);
}

function describe(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && typeof child !== 'boolean')
    .map((child) => (typeof child === 'object' ? child : { text: String(child), dom: null }));
}

function reconcile(parent, before, after, inSvg) {
  const known = identify(before);
  const wanted = identify(after);
  for (const [identity, node] of known) {
    if (!wanted.has(identity)) node.dom.remove();
  }
  const still = staying(known, wanted);
  let cursor = parent.firstChild;
  for (const [identity, node] of wanted) {
    const old = known.get(identity);
    node.dom = old ? update(old, node, inSvg) : create(node, inSvg);
    // What lies before one that stays has its place further on, and is put there when its turn comes.
    if (cursor === node.dom || still.has(identity)) cursor = node.dom.nextSibling;
    else parent.insertBefore(node.dom, cursor);
  }
}

/**
 * Those with a key that need not move: the longest list of them whose order is as it was. Whatever moves in a document begins anew if it is a
 * frame, and loses the focus; so neighbours without a key, which stand for each other, move around them.
 */
function staying(known, wanted) {
  const places = new Map([...known.keys()].map((identity, place) => [identity, place]));
  const kept = [...wanted].filter(([identity, node]) => node.props?.key !== undefined && known.has(identity)).map(([identity]) => identity);
  // The end of the best list of each length, and what comes before each in its list.
  const [ends, before] = [[], new Map()];
  for (const identity of kept) {
    const isLast = ends.length === 0 || places.get(ends.at(-1)) < places.get(identity);
    const at = isLast ? ends.length : ends.findIndex((end) => places.get(end) > places.get(identity));
    before.set(identity, ends[at - 1]);
    ends[at] = identity;
  }
  const still = new Set();
  for (let identity = ends.at(-1); identity !== undefined; identity = before.get(identity)) still.add(identity);
  return still;
}

/** Names each sibling: by key when it has one, else by tag and position among its kind. */
function identify(nodes) {
  const counts = new Map();
  const named = new Map();
  for (const node of nodes) {
    const kind = node.tag ?? '#text';
    const stem = node.props?.key === undefined ? `${kind} ` : `${kind} =${node.props.key} `;
    const count = counts.get(stem) ?? 0;
    counts.set(stem, count + 1);
    named.set(stem + count, node);
  }
  return named;
}

function create(node, inSvg) {
  if (node.tag === undefined) return document.createTextNode(node.text);
  const svg = inSvg || node.tag === 'svg';
  const dom = svg ? document.createElementNS(SVG, node.tag) : document.createElement(node.tag);
  for (const [name, value] of Object.entries(node.props)) set(dom, name, value, undefined);
  reconcile(dom, [], node.children, svg);
  return dom;
}

function update(old, node, inSvg) {
  const dom = old.dom;
  if (node.tag === undefined) {
    if (old.text !== node.text) dom.data = node.text;
    return dom;
  }
  for (const name of Object.keys(old.props)) {
    if (!(name in node.props)) set(dom, name, undefined, old.props[name]);
  }
  for (const [name, value] of Object.entries(node.props)) {
    if (value !== old.props[name]) set(dom, name, value, old.props[name]);
  }
  reconcile(dom, old.children, node.children, inSvg || node.tag === 'svg');
  return dom;
}

function set(dom, name, value, before) {
  if (name === 'key') return;
  if (name === 'ref') {
    if (before === undefined) value?.(dom);
    return;
  }
  if (name.startsWith('on')) {
    dom[name] = value ?? null;
  } else if (name === 'style') {
    restyle(dom, value ?? {}, before ?? {});
  } else if (PROPERTIES.has(name)) {
    dom[name] = value ?? '';
  } else if (value === undefined || value === null || value === false) {
    dom.removeAttribute(name);
  } else if (name === 'href' && !/^(#|\/(?!\/))/.test(value)) {
    throw new Error(`link \`${value}\` leaves this site; link to a path or a fragment`);
  } else {
    dom.setAttribute(name, value === true ? '' : value);
  }
}

function restyle(dom, style, before) {
  for (const name of Object.keys(before)) {
    if (!(name in style)) dom.style.removeProperty(name);
  }
  for (const [name, value] of Object.entries(style)) {
    if (value !== before[name]) dom.style.setProperty(name, value);
  }
}
