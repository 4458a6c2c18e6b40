-- Constants and draws. Draws depend on the stream alone, so cpu and ref agree to the bit.
return {
  { op = 'full', opts = { size = { 2, 3 }, value = 1.5 } },
  { op = 'zeros', opts = { size = { 2, 0 } } },
  { op = 'ones', opts = { size = { 3 } } },
  { op = 'zeros_like', { 2, 3 } },
  { op = 'ones_like', { 2, 3 } },
  { op = 'randn', opts = { size = { 37 } } },
  { op = 'rand', opts = { size = { 37 } } },
}
