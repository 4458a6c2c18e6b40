-- Reductions: all, some, kept, and over nothing.
return {
  { op = 'sum', { 2, 3 } },
  { op = 'sum', { 2, 3, 4 }, opts = { dim = { 1, 3 } } },
  { op = 'sum', { 2, 3, 4 }, opts = { dim = -2, keepdim = true } },
  { op = 'sum', {} },
  { op = 'sum', { 0, 3 }, opts = { dim = 1 } },
  { op = 'sum', { 1037 } },
}
