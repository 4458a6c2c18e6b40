-- Attention of heads apart and packed; their fused gradients take y and lse as they are given.
local list = {}
local function add(case) list[#list + 1] = case end
local through = 'checked as the gradient of attention'

-- batch, queries, keys, width, values
local function apart(lead, l, s, e, ev)
  local q, k, v = { unpack(lead) }, { unpack(lead) }, { unpack(lead) }
  q[#q + 1], q[#q + 2] = l, e
  k[#k + 1], k[#k + 2] = s, e
  v[#v + 1], v[#v + 2] = s, ev
  return q, k, v
end

for _, causal in ipairs { false, true } do
  local opts = { is_causal = causal }
  local function small(lead, l, s, e, ev, scale)
    local q, k, v = apart(lead, l, s, e, ev)
    add { op = 'attention', q, k, v, opts = { is_causal = causal, scale = scale } }
  end
  small({ 2 }, 3, 3, 2, 2)
  small({ 1, 2 }, 2, 4, 3, 2, 0.7)
  small({}, 4, 2, 2, 3)
  small({ 1, 2 }, 3, 1, 1, 1, -1.5)
  add { op = 'attention', { 0, 3, 2 }, { 0, 3, 2 }, { 0, 3, 2 }, opts = opts }
  add { op = 'attention_qkv', { 2, 3, 6 }, opts = { heads = 1, is_causal = causal } }
  add { op = 'attention_qkv', { 1, 3, 12 }, opts = { heads = 2, is_causal = causal, scale = 0.7 } }
  add { op = 'attention_qkv', { 2, 0, 12 }, opts = { heads = 2, is_causal = causal } }
  -- over one block of queries and of keys, forward and back; odd sizes; more heads than threads
  for _, n in ipairs { { { 3 }, 7, 7, 5, 5 }, { { 2, 3 }, 67, 67, 16, 16 },
                       { { 2 }, 129, 129, 64, 64 }, { { 1 }, 40, 211, 33, 17 },
                       { { 1 }, 211, 40, 17, 70 },
                       { { 1, 2 }, 230, 230, 24, 24 } } do
    local q, k, v = apart(unpack(n))
    local y, lse = { unpack(q) }, { unpack(q, 1, #q - 1) }
    y[#y] = v[#v]
    lse.low, lse.high = 8, 10 -- as large as the sums behind them
    add { op = 'attention', q, k, v, opts = opts, no_grad = 'size' }
    add { op = 'attention_backward', y, q, k, v, y, lse, opts = opts, golden = false,
          no_grad = through }
  end
  for parts = 1, 6 do
    local q, k, v = apart({ 2 }, 9, 11, 4, 5)
    add { op = 'attention_backward', { 2, 9, 5 }, q, k, v, { 2, 9, 5 }, { 2, 9, low = 5, high = 6 },
          opts = { is_causal = causal, parts = parts }, golden = false, no_grad = through }
  end
  for _, n in ipairs { { 2, 67, 3, 16 }, { 1, 130, 2, 64 }, { 3, 5, 1, 33 } } do
    local b, t, heads, width = unpack(n)
    local wide = heads * width
    local o = { heads = heads, is_causal = causal }
    add { op = 'attention_qkv', { b, t, 3 * wide }, opts = o, no_grad = 'size' }
    add { op = 'attention_qkv_backward', { b, t, wide }, { b, t, 3 * wide }, { b, t, wide },
          { b, heads, t, low = 8, high = 10 }, opts = o, golden = false, no_grad = through }
  end
end
for _, shape in ipairs { { 3, 4 }, { 2, 4, 3 }, { 3, 0 } } do
  add { op = 'causal_fill', shape, opts = { value = 0.5 }, golden = false }
end
add { op = 'causal_fill', { 3, 211, 300 }, opts = { value = -1 }, golden = false, no_grad = 'size' }
return list
