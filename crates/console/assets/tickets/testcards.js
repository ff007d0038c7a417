// Cards of the test provider; to any other they mean nothing.

export const TEST_CARDS = [
  ['4242 4242 4242 4242', 'succeeds'],
  ['4000 0000 0000 0002', 'is declined'],
  ['4000 0000 0000 9995', 'has too little money'],
  ['4000 0027 6000 3184', 'asks for a second step'],
  ['4000 0000 0001 0001', 'answers after 2 s'],
  ['4000 0000 0001 0027', 'is charged, and never answers'],
  ['4000 0000 0001 0035', 'is not charged, and never answers'],
  ['4000 0000 0001 0076', 'is charged, then let go by the bank'],
];
