// Shows an OpenAPI document: operations by tag, what they take and answer, and a form to try each. Text is only ever a text
// node: nothing of the document is parsed as HTML.

const METHODS = ['get', 'post', 'put', 'patch', 'delete', 'head', 'options', 'trace'];
const DEEPEST = 8;

function el(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

let api = {};

/** What a reference leads to; anything else as it is. */
function follow(value) {
  for (let steps = 0; value?.$ref && steps < 16; steps += 1) {
    const keys = value.$ref.replace(/^#\//, '').split('/');
    value = keys.reduce((at, key) => at?.[decodeURIComponent(key).replaceAll('~1', '/').replaceAll('~0', '~')], api);
  }
  return value ?? {};
}

function typeOf(schema) {
  const name = schema.$ref?.split('/').pop();
  const full = follow(schema);
  const types = [full.type ?? (full.properties ? 'object' : full.items ? 'array' : null)].flat().filter(Boolean);
  let text = types.join(' or ') || ['oneOf', 'anyOf', 'allOf'].filter((key) => full[key]).map((key) => ({ oneOf: 'one of', anyOf: 'any of', allOf: 'all of' })[key]).join(', ') || 'any';
  if (types.includes('array') && full.items) text = `list of ${typeOf(full.items)}`;
  if (full.format) text += ` (${full.format})`;
  return name && types.includes('object') ? name : text;
}

function limits(schema) {
  const said = [];
  if (schema.enum) said.push(`one of ${schema.enum.map((word) => JSON.stringify(word)).join(', ')}`);
  if (schema.const !== undefined) said.push(`always ${JSON.stringify(schema.const)}`);
  if (schema.minimum !== undefined) said.push(`at least ${schema.minimum}`);
  if (schema.exclusiveMinimum !== undefined) said.push(`more than ${schema.exclusiveMinimum}`);
  if (schema.maximum !== undefined) said.push(`at most ${schema.maximum}`);
  if (schema.exclusiveMaximum !== undefined) said.push(`less than ${schema.exclusiveMaximum}`);
  if (schema.minLength !== undefined) said.push(`${schema.minLength} characters or more`);
  if (schema.maxLength !== undefined) said.push(`up to ${schema.maxLength} characters`);
  if (schema.minItems !== undefined) said.push(`${schema.minItems} items or more`);
  if (schema.maxItems !== undefined) said.push(`up to ${schema.maxItems} items`);
  if (schema.pattern) said.push(`like ${schema.pattern}`);
  if (schema.default !== undefined) said.push(`default ${JSON.stringify(schema.default)}`);
  return said.join(', ');
}

function field(name, schema, isRequired, depth, description) {
  const full = follow(schema);
  const said = limits(full);
  return el('div', { class: 'field' },
    el('div', { class: 'field-head' }, el('code', {}, name), el('span', { class: 'type' }, typeOf(schema)),
      isRequired && el('span', { class: 'required' }, 'required'),
      full.readOnly && el('span', { class: 'type' }, 'read only'), full.writeOnly && el('span', { class: 'type' }, 'write only')),
    (description ?? full.description) && el('p', { class: 'text muted' }, description ?? full.description),
    said && el('p', { class: 'type' }, said),
    below(schema, depth));
}

/** The fields within a schema. */
function below(schema, depth) {
  let full = follow(schema);
  while (full.items) full = follow(full.items);
  if (depth >= DEEPEST) return null;
  const rows = Object.entries(full.properties ?? {}).map(([name, one]) => field(name, one, full.required?.includes(name), depth + 1));
  for (const key of ['allOf', 'oneOf', 'anyOf']) {
    (full[key] ?? []).forEach((one, at) => rows.push(field(key === 'allOf' ? 'and' : `${at ? 'or' : 'either'}`, one, false, depth + 1)));
  }
  if (typeof full.additionalProperties === 'object') rows.push(field('any name', full.additionalProperties, false, depth + 1));
  return rows.length > 0 && el('div', { class: 'fields' }, rows);
}

/** A value as the schema has it. */
function example(schema, depth = 0) {
  const full = follow(schema);
  const given = full.example ?? full.examples?.[0] ?? full.default ?? full.const ?? full.enum?.[0];
  if (given !== undefined || depth > DEEPEST) return given ?? null;
  const several = full.allOf ?? (full.oneOf ?? full.anyOf)?.slice(0, 1);
  if (several) return several.reduce((all, one) => {
    const value = example(one, depth + 1);
    return value && typeof value === 'object' && !Array.isArray(value) ? { ...all, ...value } : value;
  }, {});
  const type = [full.type].flat()[0];
  if (type === 'array' || full.items) return full.items ? [example(full.items, depth + 1)] : [];
  if (type === 'object' || full.properties) {
    const shown = Object.entries(full.properties ?? {}).filter(([, one]) => !follow(one).readOnly);
    return Object.fromEntries(shown.map(([name, one]) => [name, example(one, depth + 1)]));
  }
  if (type === 'integer' || type === 'number') return full.minimum ?? 1;
  if (type === 'boolean') return true;
  return type === 'null' ? null : full.format === 'date-time' ? '2026-01-31T12:00:00Z' : full.format === 'date' ? '2026-01-31' : 'text';
}

function part(title, ...content) {
  return el('div', { class: 'part' }, el('h3', {}, title), content);
}

function content(described) {
  return Object.entries(described.content ?? {}).map(([kind, one]) => [
    el('p', { class: 'type' }, kind, one.schema ? `: ${typeOf(one.schema)}` : ''),
    one.schema && below(one.schema, 0),
    one.example !== undefined && el('pre', {}, JSON.stringify(one.example, null, 2)),
  ]);
}

function parametersOf(operation) {
  return (operation.parameters ?? []).map(follow).filter((parameter) => parameter.name);
}

function fill(parameters) {
  return el('div', { class: 'fields' }, parameters.map((parameter) => field(parameter.name, parameter.schema ?? {}, parameter.required, 0, parameter.description)));
}

function inside(path, method, operation) {
  const parameters = parametersOf(operation);
  const body = operation.requestBody && follow(operation.requestBody);
  const groups = ['path', 'query', 'header', 'cookie'].map((place) => [place, parameters.filter((parameter) => parameter.in === place)]);
  const answers = Object.entries(operation.responses ?? {}).map(([status, one]) => {
    const answer = follow(one);
    return el('div', { class: 'field' },
      el('div', { class: 'field-head' }, el('span', { class: `status status-${status[0]}` }, status), el('span', { class: 'text' }, answer.description ?? '')),
      content(answer));
  });
  const schemes = new Set((operation.security ?? []).flatMap((one) => Object.keys(one)));
  return el('div', { class: 'inside' },
    operation.description && el('p', { class: 'text' }, operation.description),
    schemes.size > 0 && part('Proof', el('p', {}, [...schemes].join(' or '))),
    groups.filter(([, some]) => some.length > 0).map(([place, some]) => part({ path: 'In the path', query: 'In the query', header: 'Headers', cookie: 'Cookies' }[place], fill(some))),
    body && part(`Body${body.required ? '' : ', optional'}`, body.description && el('p', { class: 'text' }, body.description), content(body)),
    answers.length > 0 && part('Answers', el('div', { class: 'fields' }, answers)),
    part('Try it', tryForm(path, method, operation, parameters, body)));
}

function tryForm(path, method, operation, parameters, body) {
  const shown = parameters.filter((parameter) => parameter.in !== 'cookie');
  const kind = body && Object.keys(body.content ?? {})[0];
  const output = el('div', { class: 'part wide', role: 'status' });
  const inputs = shown.map((parameter) => [parameter, el('input', { name: parameter.name, required: parameter.required, autocomplete: 'off' })]);
  const proof = el('input', { name: 'authorization', autocomplete: 'off', placeholder: 'Bearer …' });
  const text = kind && el('textarea', { name: 'body', spellcheck: 'false' });
  if (text) text.value = kind.includes('json') ? JSON.stringify(example(body.content[kind].schema ?? {}), null, 2) : '';
  const button = el('button', { type: 'submit' }, 'Send');
  const send = async (event) => {
    event.preventDefault();
    button.disabled = true;
    const query = new URLSearchParams();
    const headers = new Headers();
    let target = path;
    for (const [parameter, input] of inputs) {
      if (parameter.in === 'path') target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value === '') continue;
      else if (parameter.in === 'query') query.append(parameter.name, input.value);
      else headers.set(parameter.name, input.value);
    }
    if (proof.value) headers.set('authorization', proof.value);
    if (kind) headers.set('content-type', kind);
    const url = query.size > 0 ? `${target}?${query}` : target;
    try {
      const began = performance.now();
      const answer = await fetch(url, { method: method.toUpperCase(), headers, body: text ? text.value : undefined, redirect: 'manual' });
      let said = await answer.text();
      try { said = JSON.stringify(JSON.parse(said), null, 2); } catch { /* It is shown as it is. */ }
      const took = Math.round(performance.now() - began);
      output.replaceChildren(
        el('p', {}, el('span', { class: `status status-${String(answer.status)[0]}` }, String(answer.status || 'redirected')), el('span', { class: 'muted' }, ` ${url} · ${took} ms · ${answer.headers.get('content-type') ?? 'no body'}`)),
        el('pre', { tabindex: '0' }, said.slice(0, 100_000)));
    } catch (error) {
      output.replaceChildren(el('p', { class: 'required' }, `The request did not get through: ${error.message}`));
    }
    button.disabled = false;
  };
  return el('form', { onsubmit: send },
    inputs.map(([parameter, input]) => el('label', {}, el('span', {}, parameter.name, parameter.required && el('span', { class: 'required' }, ' required')), input)),
    (operation.security ?? []).length > 0 && el('label', {}, 'authorization', proof),
    text && el('label', { class: 'wide' }, `body (${kind})`, text),
    el('div', { class: 'wide' }, button), output);
}

function card({ id, path, method, operation }) {
  const details = el('details', { class: `operation${operation.deprecated ? ' deprecated' : ''}`, id },
    el('summary', {}, el('span', { class: `method method-${method}` }, method), el('span', { class: 'path' }, path), el('span', { class: 'muted' }, operation.summary ?? '')));
  details.addEventListener('toggle', () => {
    // Made when first looked at: a document may have thousands.
    if (details.open && details.children.length === 1) details.append(inside(path, method, operation));
  });
  return details;
}

function show(rail, main) {
  const operations = Object.entries(api.paths ?? {}).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ id: `${method}${path}`.replaceAll(/[^A-Za-z0-9]+/g, '-'), path, method, operation: item[method], tag: item[method].tags?.[0] ?? '' })));
  const described = new Map((api.tags ?? []).map((tag) => [tag.name, tag.description]));
  const tags = [...new Set([...described.keys(), ...operations.map((one) => one.tag)])].filter((tag) => operations.some((one) => one.tag === tag));
  const search = el('input', { type: 'search', placeholder: 'Search', 'aria-label': 'Search operations' });
  const nav = el('nav', { 'aria-label': 'Operations' });
  const list = el('div', { class: 'part' });
  const fit = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    const found = operations.filter(({ path, method, operation }) => {
      const text = `${method} ${path} ${operation.summary ?? ''} ${operation.operationId ?? ''}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    const groups = tags.map((tag) => [tag, found.filter((one) => one.tag === tag)]).filter(([, some]) => some.length > 0);
    nav.replaceChildren(...groups.map(([tag, some]) => el('div', {}, el('h2', {}, tag),
      el('ul', {}, some.map((one) => el('li', {}, el('a', { href: `#${one.id}` }, el('span', { class: `method method-${one.method}` }, one.method), el('span', { class: 'path' }, one.path))))))));
    list.replaceChildren(...groups.flatMap(([tag, some]) => [el('h2', {}, tag), ...(described.get(tag) ? [el('p', { class: 'text muted' }, described.get(tag))] : []), ...some.map(card)]));
    if (groups.length === 0) list.replaceChildren(el('p', { class: 'muted' }, operations.length === 0 ? 'No service has described anything yet.' : 'Nothing fits. Try fewer words.'));
  };
  search.addEventListener('input', fit);
  rail.append(el('div', { class: 'brand' }, el('h1', {}, api.info?.title ?? 'APIs'), el('p', { class: 'muted' }, `version ${api.info?.version ?? ''} · ${operations.length} operations`)), search, nav);
  main.append(...(api.info?.description ? [el('p', { class: 'text' }, api.info.description)] : []), list,
    el('p', { class: 'muted' }, el('a', { href: document.body.dataset.document }, 'The document'), ' for tools: OpenAPI 3.1, JSON'));
  fit();
  const open = () => {
    const wanted = document.getElementById(location.hash.slice(1));
    if (wanted?.matches('details')) {
      wanted.open = true;
      wanted.scrollIntoView();
    }
  };
  addEventListener('hashchange', open);
  open();
}

const rail = el('header', { class: 'rail' });
const main = el('main', { tabindex: '-1' });
document.body.append(rail, main);
try {
  const answer = await fetch(document.body.dataset.document, { headers: { accept: 'application/json' } });
  if (!answer.ok) throw new Error(`it was answered ${answer.status}`);
  api = await answer.json();
  show(rail, main);
} catch (error) {
  main.append(el('p', {}, `The document cannot be shown: ${error.message}. Try again later.`));
}
