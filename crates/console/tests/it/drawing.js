// Runs in a page of the console and returns the names of the checks that do not hold: what is drawn again stays where it is. A frame that
// moves in its document begins anew, without what was typed into it.
const failed = [];
const same = (name, found, wanted) => {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (a !== b) failed.push(`${name}: found ${a}, wanted ${b}`);
};
const { draw, h } = await import('/console/dom.js');
const host = document.body.appendChild(document.createElement('div'));
const row = (key) => h('p', { key }, key);
const texts = () => [...host.children].map((child) => child.textContent || child.tagName);
const show = (...children) => draw(host, children);
try {
  const frame = () => h('iframe', { key: 'frame' });
  show(h('p', null, 'above'), frame(), h('p', null, 'below'));
  const begun = host.querySelector('iframe').contentWindow;
  show(frame(), h('p', null, 'below'));
  same('a neighbour without a key goes', [host.querySelector('iframe').contentWindow === begun, texts()], [true, ['IFRAME', 'below']]);
  show(h('p', null, 'above'), h('p', null, 'too'), frame(), h('p', null, 'below'));
  same('and others come', [host.querySelector('iframe').contentWindow === begun, texts()], [true, ['above', 'too', 'IFRAME', 'below']]);
  show(...['a', 'b', 'c', 'd'].map(row));
  const moved = [];
  const watch = new MutationObserver(() => {});
  watch.observe(host, { childList: true });
  for (const order of ['bcda', 'abcd', 'dcba', 'xbya', 'abxyc', '', 'ab']) {
    show(...[...order].map(row));
    same(`in the order ${order}`, texts().join(''), order);
    moved.push(watch.takeRecords().filter(({ addedNodes }) => addedNodes.length > 0).length);
  }
  watch.disconnect();
  same('no more move than must', moved, [1, 1, 3, 2, 3, 0, 2]);
} finally {
  host.remove();
}
return failed;
