-- Other shapes and types of the same elements.
return {
  { op = 'to', { 2, 3 }, opts = { dtype = 'f64' } },
  { op = 'to', { 2, 3 }, opts = { dtype = 'f32' }, no_grad = 'its rounding is no small step' },
  { op = 'to', { 5, int = true, low = -3, high = 300 }, opts = { dtype = 'u8' }, no_grad = 'integers' },
  { op = 'clone', { 2, 3 } },
  { op = 'reshape', { 2, 6 }, opts = { size = { 3, -1 } } },
  { op = 'expand', { 2, 1 }, opts = { size = { 3, 2, 4 } } },
  { op = 'expand', {}, opts = { size = { 2 } } },
  { op = 'sum_to', { 3, 2, 4 }, opts = { size = { 2, 1 } } },
}
