-- Constants.
return {
  { op = 'full', opts = { size = { 2, 3 }, value = 1.5 } },
  { op = 'zeros', opts = { size = { 2, 0 } } },
  { op = 'ones', opts = { size = { 3 } } },
  { op = 'zeros_like', { 2, 3 } },
  { op = 'ones_like', { 2, 3 } },
  { op = 'full_like', { 2, 3 }, opts = { value = -2.5 } },
  { op = 'arange', opts = { start = 0, ['end'] = 7 } },
  { op = 'arange', opts = { start = 1, ['end'] = 2, step = 0.25 } },
  { op = 'arange', opts = { start = 5, ['end'] = -6, step = -3 } },
  { op = 'arange', opts = { start = 3, ['end'] = 3 } },
  { op = 'linspace', opts = { start = -1, ['end'] = 2, steps = 7 } },
  { op = 'linspace', opts = { start = 1, ['end'] = 2, steps = 1 } },
  { op = 'linspace', opts = { start = 1, ['end'] = 2, steps = 0 } },
  { op = 'eye', opts = { n = 3 } },
  { op = 'eye', opts = { n = 2, m = 4 } },
  { op = 'eye', opts = { n = 3, m = 0 } },
}
