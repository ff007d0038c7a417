// Stands in for Stripe's script: one field whose number becomes the payment method of that name.
const METHODS = @METHODS@;

window.Stripe = (key) => {
  if (!key.startsWith('pk_')) throw new Error(`no publishable key: ${key}`);
  const handlers = {};
  const field = document.createElement('input');
  field.id = 'stand-in-number';
  field.placeholder = 'Card number';
  field.oninput = () => handlers.change?.({ complete: field.value.length >= 16, error: null });
  const card = {
    mount(selector) {
      document.querySelector(selector).append(field);
      setTimeout(() => handlers.ready?.(), 0);
    },
    on(name, handler) { handlers[name] = handler; },
  };
  return {
    elements: () => ({ create: () => card }),
    createPaymentMethod: async () => {
      const id = METHODS[field.value.replaceAll(' ', '')];
      return id ? { paymentMethod: { id } } : { error: { message: 'Your card number is incomplete.' } };
    },
  };
};
