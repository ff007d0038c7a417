// Stripe's form for cards. It talks to the page around it, of the same origin, by messages `{card: …}`:
//   out: `ready`, `unreachable`, `changed` with `complete` and `error`, `method` or `refused` with the `ask` they answer
//   in:  `pay` with a number `ask`: turn what was typed into a payment method

const PATIENCE_MS = 15_000;
const { script, key } = document.body.dataset;
const dark = matchMedia('(prefers-color-scheme: dark)').matches;
const tell = (card, more = {}) => window.parent.postMessage({ card, ...more }, location.origin);

function load() {
  return new Promise((resolve, reject) => {
    const element = document.createElement('script');
    const give = (settle) => () => settle(element);
    element.src = script;
    element.onload = give(resolve);
    element.onerror = give(reject);
    setTimeout(give(reject), PATIENCE_MS);
    document.head.append(element);
  });
}

function style() {
  const [color, iconColor, muted] = dark ? ['#e8eaed', '#e8eaed', '#9aa1a9'] : ['#15181b', '#15181b', '#6b727b'];
  return { base: { color, iconColor, fontSize: '16px', fontFamily: 'system-ui, sans-serif', '::placeholder': { color: muted } } };
}

try {
  await load();
  const stripe = window.Stripe(key);
  const card = stripe.elements().create('card', { style: style(), hidePostalCode: true });
  card.mount('#card');
  card.on('ready', () => tell('ready'));
  card.on('change', ({ complete, error }) => tell('changed', { complete: Boolean(complete), error: error?.message ?? null }));
  window.addEventListener('message', async ({ origin, source, data }) => {
    if (origin !== location.origin || source !== window.parent || data?.card !== 'pay') return;
    const { ask } = data;
    try {
      const { paymentMethod, error } = await stripe.createPaymentMethod({ type: 'card', card });
      if (error) tell('refused', { ask, message: error.message ?? 'Stripe does not take this card.' });
      else tell('method', { ask, id: paymentMethod.id });
    } catch (cause) {
      tell('refused', { ask, message: `Stripe does not answer (${cause.message}). Check the network, then try again.` });
    }
  });
} catch {
  tell('unreachable', { from: new URL(script).host });
}
