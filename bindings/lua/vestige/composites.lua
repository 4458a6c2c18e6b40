--- Functions made of operators: M.name(vestige) returns vestige.name, which is a method too.
-- Their gradients are those of the operators, to any order.
local raise = require 'vestige.fail'

local M = {}

-- Dimension d of `what`, from 1 or from the end, as a number from 1 to n.
local function dim_of(what, d, n)
  n = math.max(n, 1)
  if type(d) ~= 'number' or d ~= math.floor(d) or d == 0 or d > n or d < -n then
    raise(('%s: dim is out of range: expected %d to -1 or 1 to %d, got %s'):format(what, -n, n,
          tostring(d)))
  end
  return d > 0 and d or d + n + 1
end

-- The numbers of a call f(x, 1, 2) or f(x, {1, 2}).
local function numbers(first, ...)
  if type(first) == 'table' then return first end
  return { first, ... }
end

-- ---- Shapes ----

M.broadcast_to = function(vestige) return vestige.expand end
M.contiguous = function() return function(x) return x end end

function M.expand_as(vestige)
  --- x:expand_as(y): x with dimensions of size 1 repeated to y's shape. A copy.
  return function(x, y) return vestige.expand(x, y:shape()) end
end

function M.view_as(vestige)
  --- x:view_as(y): x's elements in y's shape, sharing x's storage.
  return function(x, y) return vestige.reshape(x, y:shape()) end
end

function M.t(vestige)
  --- x:t(): the matrix x transposed; a tensor of one dimension or none as it is.
  return function(x)
    if x:dim() > 2 then raise(('t: expected at most 2 dimensions, got %d'):format(x:dim())) end
    return x:dim() < 2 and x or vestige.transpose(x, 1, 2)
  end
end

function M.to_nchw(vestige)
  --- vestige.to_nchw(x): images (N,H,W,C) as (N,C,H,W). A copy.
  return function(x) return vestige.permute(x, { 1, 4, 2, 3 }) end
end

function M.to_nhwc(vestige)
  --- vestige.to_nhwc(x): images (N,C,H,W) as (N,H,W,C). A copy.
  return function(x) return vestige.permute(x, { 1, 3, 4, 2 }) end
end

function M.tile(vestige)
  --- x:tile(n1, n2, ...): x repeated n1 times along its first dimension, and so on; fewer numbers
  -- than dimensions leave the first ones alone.
  return function(x, ...)
    local times, shape = numbers(...), x:shape()
    local n = math.max(#times, #shape)
    local apart, wide, final = {}, {}, {}
    for d = 1, n do
      local size = shape[d - n + #shape] or 1
      local k = times[d - n + #times] or 1
      apart[2 * d - 1], apart[2 * d] = 1, size
      wide[2 * d - 1], wide[2 * d] = k, size
      final[d] = k * size
    end
    if n > 4 then raise('tile: expected at most 4 dimensions, got ' .. n) end
    return vestige.reshape(vestige.expand(vestige.reshape(x, apart), wide), final)
  end
end

function M.roll(vestige)
  --- x:roll(shifts, dims): x's slices moved by shifts along dims; what leaves at the end comes back
  -- at the start. Without dims in x flattened.
  return function(x, shifts, dims)
    if dims == nil then
      return vestige.view_as(vestige.roll(vestige.flatten(x), shifts, 1), x)
    end
    shifts, dims = numbers(shifts), numbers(dims)
    if #shifts ~= #dims then
      raise(('roll: %d shifts for %d dims'):format(#shifts, #dims))
    end
    for i, d in ipairs(dims) do
      d = dim_of('roll', d, x:dim())
      local n = x:size(d)
      local by = n > 0 and shifts[i] % n or 0
      if by ~= 0 then
        local tail, head = vestige.narrow(x, d, n - by + 1, by), vestige.narrow(x, d, 1, n - by)
        x = vestige.cat({ tail, head }, d)
      end
    end
    return x
  end
end

-- The places of n pixels' centres in -1 .. 1: along dimension -1 of a tensor that broadcasts to
-- (h,w,1).
local function centres(vestige, n, align, shape, like)
  local at = vestige.arange(0, n):to(like:dtype())
  at = align and (n > 1 and at * (2 / (n - 1)) - 1 or at * 0) or (at * 2 + 1) / math.max(n, 1) - 1
  return at:reshape(shape)
end

function M.affine_grid(vestige)
  --- vestige.affine_grid(theta, size, {align_corners}): the grid (n,h,w,2) at which grid_sample
  -- takes images of size {n,h,w,c} when output place (x, y, 1) is mapped by theta (n,2,3):
  -- {{1, 0, a}, {0, 1, b}} moves the image by half its width times -a, its height times -b.
  return function(theta, size, o)
    local s = theta:shape()
    if #s ~= 3 or s[2] ~= 2 or s[3] ~= 3 then
      raise(('affine_grid: theta: expected (n,2,3), got (%s)'):format(table.concat(s, ',')))
    end
    if type(size) ~= 'table' or (#size ~= 4 and #size ~= 3) or size[1] ~= s[1] then
      raise(('affine_grid: size: expected {%d, h, w, c}'):format(s[1]))
    end
    local h, w, align = size[2], size[3], o and o.align_corners or false
    local x = centres(vestige, w, align, { 1, w, 1 }, theta):expand{ h, w, 1 }
    local y = centres(vestige, h, align, { h, 1, 1 }, theta):expand{ h, w, 1 }
    local base = vestige.cat({ x, y, vestige.ones_like(x) }, 3):reshape(1, h * w, 3)
    return vestige.matmul(base, theta:transpose(2, 3)):reshape(s[1], h, w, 2)
  end
end

-- ---- Cutting ----

function M.split(vestige)
  --- x:split(size, dim): x cut along dim (default 1) into a list of parts of size slices, the last
  -- one maybe smaller; a list of sizes gives parts of those sizes.
  return function(x, size, dim)
    dim = dim_of('split', dim or 1, x:dim())
    local n, parts, start = x:size(dim), {}, 1
    if type(size) == 'number' then
      if size < 1 then raise('split: size: expected 1 or more, got ' .. size) end
      local sizes = {}
      for at = 0, math.max(n - 1, 0), size do sizes[#sizes + 1] = math.min(size, n - at) end
      size = sizes
    end
    for i, s in ipairs(size) do
      parts[i] = vestige.narrow(x, dim, start, s)
      start = start + s
    end
    if start ~= n + 1 then
      raise(('split: the sizes add up to %d, dimension %d has %d'):format(start - 1, dim, n))
    end
    return parts
  end
end

function M.chunk(vestige)
  --- x:chunk(n, dim): x cut along dim (default 1) into a list of at most n parts of equal size, the
  -- last one maybe smaller.
  return function(x, n, dim)
    if type(n) ~= 'number' or n < 1 then
      raise('chunk: expected a number of parts, got ' .. tostring(n))
    end
    local size = x:size(dim_of('chunk', dim or 1, x:dim()))
    return vestige.split(x, math.max(1, math.ceil(size / n)), dim)
  end
end

function M.unbind(vestige)
  --- x:unbind(dim): the list of x's slices along dim (default 1).
  return function(x, dim)
    dim = dim_of('unbind', dim or 1, x:dim())
    local list = {}
    for i = 1, x:size(dim) do list[i] = vestige.select(x, dim, i) end
    return list
  end
end

-- ---- Orders ----

function M.argsort(vestige)
  --- x:argsort(dim, descending, stable): the 0-based places that x's elements have before sorting.
  return function(x, ...)
    local _, indices = vestige.sort(x, ...)
    return indices
  end
end

local unique_options = { return_inverse = true, return_counts = true, sorted = true }

function M.unique(vestige)
  --- x:unique{return_inverse=, return_counts=}: the different elements of x, sorted; with
  -- return_inverse also an i64 tensor of x's shape with each element's place among them (0-based),
  -- with return_counts also how often each stands in x. No gradient.
  return function(x, o)
    o = o or {}
    for k in pairs(o) do
      if not unique_options[k] then
        local near = require('vestige.nearest').find(tostring(k), { 'return_inverse',
                                                                    'return_counts' })
        raise(("unique: unknown option '%s'%s"):format(tostring(k),
              near and (", did you mean '%s'?"):format(near) or ''))
      end
    end
    return vestige.no_grad(function()
      local sorted, order = vestige.sort(vestige.flatten(x))
      local n = #sorted
      local first = vestige.ones_like(sorted):to 'bool' -- true where a run of equal ones starts
      if n > 1 then
        first = vestige.cat{ vestige.narrow(first, 1, 1, 1),
                             vestige.ne(vestige.narrow(sorted, 1, 2, n - 1),
                                        vestige.narrow(sorted, 1, 1, n - 1)) }
      end
      local results = { vestige.masked_select(sorted, first) }
      if o.return_inverse then
        local place = vestige.cumsum(first, 1) - 1
        local inverse = vestige.scatter(vestige.zeros_like(place), 1, order, place)
        results[#results + 1] = vestige.view_as(inverse, x)
      end
      if o.return_counts then
        local starts = vestige.flatten(vestige.nonzero(first))
        if n > 0 then
          local last = vestige.ones_like(vestige.narrow(starts, 1, 1, 1)) * n
          starts = vestige.cat{ vestige.narrow(starts, 1, 2, #starts - 1), last } - starts
        end
        results[#results + 1] = starts
      end
      return unpack(results)
    end)
  end
end

-- ---- Quantiles ----

-- Which of n sorted elements (from 1) make quantile q, and the second one's weight.
local function places(q, n, interpolation)
  if type(q) ~= 'number' or not (q >= 0 and q <= 1) then
    raise('quantile: q: expected numbers from 0 to 1, got ' .. tostring(q))
  end
  local at = q * (n - 1)
  local low, high = math.floor(at), math.ceil(at)
  local weight = at - low
  if interpolation == 'lower' then weight = 0
  elseif interpolation == 'higher' then low, weight = high, 0
  elseif interpolation == 'midpoint' then weight = low == high and 0 or 0.5
  elseif interpolation == 'nearest' then -- a half goes to the even place, as in PyTorch
    if weight > 0.5 or (weight == 0.5 and low % 2 == 1) then low = high end
    weight = 0
  elseif interpolation ~= 'linear' then
    raise("quantile: interpolation: expected linear, lower, higher, midpoint or nearest, got '"
          .. tostring(interpolation) .. "'")
  end
  return low + 1, high + 1, weight
end

local quantile_options = { 'q', 'dim', 'keepdim', 'interpolation' }

-- Options given in order, or by name in one table without [1] at the end.
local function read_options(what, names, ...)
  local o, given = {}, { ... }
  for i, name in ipairs(names) do
    local v = given[i]
    if type(v) == 'table' and v[1] == nil then
      for k, value in pairs(v) do
        local known = false
        for _, n in ipairs(names) do known = known or n == k end
        if not known then
          local near = require('vestige.nearest').find(tostring(k), names)
          raise(("%s: unknown option '%s'%s"):format(what, tostring(k),
                near and (", did you mean '%s'?"):format(near) or ''))
        end
        o[k] = value
      end
      break
    end
    o[name] = v
  end
  return o
end

function M.quantile(vestige)
  --- x:quantile(q, dim, keepdim, interpolation): the q-quantiles of x along dim (default: of x
  -- flattened); q: a number from 0 to 1, or a list, whose results are stacked in front.
  -- interpolation between neighbours: linear (default), lower, higher, midpoint, nearest.
  -- NaN where a NaN is among the elements.
  return function(x, ...)
    local o = read_options('quantile', quantile_options, ...)
    local flat = o.dim == nil
    local dim = flat and 1 or dim_of('quantile', o.dim, x:dim())
    local row = flat and vestige.flatten(x) or x
    local n = row:size(dim)
    if n == 0 then raise('quantile: there is no element along the dimension') end
    local sorted = vestige.sort(row, dim)
    local last = vestige.narrow(sorted, dim, n, 1)
    local nan = vestige.ne(last, last)
    local function one(q)
      local low, high, weight = places(q, n, o.interpolation or 'linear')
      local y = vestige.narrow(sorted, dim, low, 1)
      if weight > 0 then
        local z = vestige.narrow(sorted, dim, high, 1)
        y = weight < 0.5 and y + (z - y) * weight or z - (z - y) * (1 - weight)
      end
      y = vestige.masked_fill(y, nan, 0 / 0)
      if not o.keepdim then return vestige.squeeze(y, dim) end
      if not flat then return y end
      local ones = {}
      for d = 1, x:dim() do ones[d] = 1 end
      return vestige.reshape(y, ones)
    end
    local qs = vestige.is_tensor(o.q) and o.q:totable() or o.q
    if type(qs) ~= 'table' then return one(qs) end
    local list = {}
    for i, q in ipairs(qs) do list[i] = one(q) end
    return vestige.stack(list)
  end
end

local median_options = { 'dim', 'keepdim' }

function M.median(vestige)
  --- x:median(): the median of all elements; of an even number the lower middle one.
  -- x:median(dim, keepdim): the medians along dim, and their 0-based places. NaN where one is.
  return function(x, ...)
    local o = read_options('median', median_options, ...)
    local flat = o.dim == nil
    local row, dim = x, 1
    if flat then row = vestige.flatten(x) else dim = dim_of('median', o.dim, x:dim()) end
    local n = row:dim() == 0 and 1 or row:size(dim)
    if n == 0 then raise('median: there is no element along the dimension') end
    local values, indices = vestige.kthvalue(row, math.floor((n + 1) / 2), dim, o.keepdim or false)
    local kind = x:dtype()
    if kind == 'f32' or kind == 'f64' or kind == 'bf16' then
      local nan = vestige.any(vestige.ne(row, row), dim, o.keepdim or false)
      values = vestige.masked_fill(values, nan, 0 / 0)
      indices = vestige.where(nan, vestige.argmax(row, dim, o.keepdim or false), indices)
    end
    if flat then return values end
    return values, indices
  end
end

-- ---- Creation, and other names of operators ----

function M.arange(vestige)
  local row = vestige.arange
  --- vestige.arange(last), vestige.arange(start, last, step): start (default 0), start + step
  -- (default 1) and so on, below last: i64 of whole numbers, else f32. Options: dtype, device.
  -- @example
  -- > assert(vestige.arange(4):sum():item() == 6)
  return function(a, b, ...)
    if type(a) == 'number' and (b == nil or type(b) == 'table') then return row(0, a, 1, b) end
    return row(a, b, ...)
  end
end

function M.randint(vestige)
  local row = vestige.randint
  --- vestige.randint(low, high, size), vestige.randint(high, size): independent uniform whole
  -- numbers from low (default 0) to high - 1. Options: dtype (default i64), device, generator.
  -- @example
  -- > assert(vestige.randint(3, {5}):amax():item() < 3)
  return function(low, high, ...)
    if type(low) == 'number' and type(high) == 'table' then return row(0, low, high, ...) end
    return row(low, high, ...)
  end
end

M.normal_cdf = function(vestige) return vestige.ndtr end
M.normal_icdf = function(vestige) return vestige.ndtri end

-- ---- Names that PyTorch overloads ----

-- max(x), max(x, other), max(x, dim, keepdim), as rows amax, maximum, max_dim.
local function extreme(name, all, pair, along)
  return function(vestige)
    return function(x, a, b)
      if a == nil then return vestige[all](x) end
      if vestige.is_tensor(a) then return vestige[pair](x, a) end
      local o = type(a) == 'table' and a or { dim = a, keepdim = b }
      if o.dim == nil then raise('%s: option dim is missing', name) end
      return vestige[along](x, o)
    end
  end
end

--- x:max(): the largest element; x:max(y): the larger of each pair; x:max(dim, keepdim): the
-- largest along dim, and its 0-based place.
M.max = extreme('max', 'amax', 'maximum', 'max_dim')
--- x:min(): the smallest element; x:min(y): the smaller of each pair; x:min(dim, keepdim): the
-- smallest along dim, and its 0-based place.
M.min = extreme('min', 'amin', 'minimum', 'min_dim')

local prod_options = { 'dim', 'keepdim' }

function M.prod(vestige)
  --- x:prod(dim, keepdim): the product along dim (default: of all elements). Halves are multiplied
  -- until one is left, so gradients of every order are exact where elements are 0.
  return function(x, ...)
    local o = read_options('prod', prod_options, ...)
    local row, dim = x, 1
    if o.dim == nil then
      row = vestige.flatten(x)
    else
      dim = dim_of('prod', o.dim, x:dim())
    end
    local n = row:size(dim)
    if n == 0 then
      return vestige.sum(row, dim, o.keepdim or false) + 1
    end
    while n > 1 do
      local half = math.floor(n / 2)
      local y = vestige.narrow(row, dim, 1, half) * vestige.narrow(row, dim, half + 1, half)
      if n % 2 == 1 then y = vestige.cat({ y, vestige.narrow(row, dim, n, 1) }, dim) end
      row, n = y, n - half
    end
    if o.keepdim then return row end
    local shape = row:shape()
    table.remove(shape, dim)
    return vestige.reshape(row, shape)
  end
end

-- ---- Comparing whole tensors ----

local function same_shape(a, b)
  if a:dim() ~= b:dim() then return false end
  local sa, sb = a:shape(), b:shape()
  for i = 1, #sa do
    if sa[i] ~= sb[i] then return false end
  end
  return true
end

function M.equal(vestige)
  --- vestige.equal(a, b): whether a and b have the same shape and elements, as a boolean. NaN
  -- equals nothing. Errors: tensors of different types or devices.
  return function(a, b)
    return same_shape(a, b) and vestige.scope(vestige.no_grad, function()
      return vestige.eq(a, b):all():item()
    end)
  end
end

function M.allclose(vestige)
  --- vestige.allclose(a, b, {rtol=1e-5, atol=1e-8}): whether a and b have the same shape and
  -- |a - b| <= atol + rtol |b| everywhere, as a boolean. NaN is close to nothing.
  return function(a, b, options)
    local o = { rtol = 1e-5, atol = 1e-8 }
    for name, v in pairs(options or {}) do
      if not o[name] then
        raise("allclose: unknown option '%s': there are rtol and atol", tostring(name))
      end
      o[name] = v
    end
    return same_shape(a, b) and vestige.scope(vestige.no_grad, function()
      local off = (a - b):abs()
      local near = off:le(b:abs() * o.rtol + o.atol):logical_and(off:lt(math.huge))
      return near:logical_or(vestige.eq(a, b)):all():item() -- equal infinities are close
    end)
  end
end

-- ---- Losses, normalisation, optimisers ----

-- The row's first result: the others serve its gradient.
local function first(name)
  return function(vestige)
    local f = vestige[name]
    return function(...) return (f(...)) end
  end
end

M.batch_norm, M.cross_entropy = first 'batch_norm', first 'cross_entropy'

local layer_norm_options = { 'normalized_shape', 'weight', 'bias', 'eps' }

function M.layer_norm(vestige)
  --- vestige.layer_norm(x, normalized_shape, weight, bias, eps): x less the mean over its last
  -- dimensions, whose sizes normalized_shape lists, divided by sqrt(variance + eps) (1e-5), times
  -- weight, plus bias, both of normalized_shape, or nil.
  local row = vestige.layer_norm
  return function(x, ...)
    local o = read_options('layer_norm', layer_norm_options, ...)
    return (row(x, o.weight, o.bias, o.normalized_shape, o.eps))
  end
end

-- ---- Attention ----
local attention_options = { 'attn_mask', 'dropout_p', 'is_causal', 'scale' }

-- Do all have the same dimensions in front of their last two?
local function same_batches(q, k, v)
  local n = q:dim()
  if k:dim() ~= n or v:dim() ~= n then return false end
  for d = 1, n - 2 do
    if k:size(d) ~= q:size(d) or v:size(d) ~= q:size(d) then return false end
  end
  return true
end

-- Scores under a mask, and the queries that see no key at all: their scores, which are then not
-- numbers, become 0, and so do their weights.
local function masked(vestige, scores, mask)
  local blind
  if mask:dtype() == 'bool' then
    blind = vestige.logical_not(vestige.any(mask, -1, true))
    scores = vestige.masked_fill(scores, vestige.logical_not(mask), -math.huge)
  else
    blind = vestige.all(vestige.eq(mask, -math.huge), -1, true)
    scores = scores + mask
  end
  return vestige.masked_fill(scores, blind, 0), blind
end

function M.scaled_dot_product_attention(vestige)
  --- vestige.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal,
  -- scale): softmax(scale query key') value, of query (...,L,E), key (...,S,E), value (...,S,Ev).
  -- attn_mask: a bool tensor, true where a query sees a key, or a float one that is added to the
  -- scores; it broadcasts to (...,L,S), and a query that sees no key gives 0. dropout_p: the
  -- probability with which a weight is dropped, always. is_causal: query i sees keys 1 to i.
  -- scale: 1/sqrt(E) by default. Without mask and dropout the weights are never stored.
  -- Errors: a mask together with is_causal.
  return function(query, key, value, ...)
    local o = read_options('scaled_dot_product_attention', attention_options, ...)
    local mask, p, causal = o.attn_mask, o.dropout_p or 0, o.is_causal or false
    if mask and causal then
      raise 'scaled_dot_product_attention: attn_mask and is_causal exclude each other'
    end
    local tensors = vestige.is_tensor(query) and vestige.is_tensor(key) and vestige.is_tensor(value)
    if not mask and p == 0 and (not tensors or same_batches(query, key, value)) then
      return (vestige._ops.attention(query, key, value, causal, o.scale))
    end
    local scale, blind = o.scale or 1 / math.sqrt(query:size(-1)), nil
    local scores = vestige.matmul(query * scale, key, { tb = true })
    if causal then scores = vestige._ops.causal_fill(scores, -math.huge) end
    if mask then scores, blind = masked(vestige, scores, mask) end
    local weights = vestige.softmax(scores, -1)
    if blind then weights = vestige.masked_fill(weights, blind, 0) end
    if p > 0 then weights = vestige.dropout(weights, p) end
    return vestige.matmul(weights, value)
  end
end

local packed_options = { 'heads', 'is_causal', 'scale', 'dropout_p' }

function M.attention_qkv(vestige)
  --- vestige.attention_qkv(qkv, heads, is_causal, scale, dropout_p): the attention of heads that
  -- are packed as one product gives them: a row of qkv (B,T,3*heads*width) holds the queries of all
  -- heads, then their keys, then their values. The result is (B,T,heads*width). The options are
  -- scaled_dot_product_attention's.
  local row = vestige.attention_qkv
  return function(qkv, ...)
    local o = read_options('attention_qkv', packed_options, ...)
    if (o.dropout_p or 0) == 0 then return (row(qkv, o.heads, o.is_causal or false, o.scale)) end
    local b, t, width = qkv:size(1), qkv:size(2), qkv:size(3) / 3
    local q, k, v = unpack(qkv:reshape{ b, t, 3, o.heads, width / o.heads }:permute{ 3, 1, 4, 2, 5 }
                             :unbind(1))
    o.heads = nil
    return vestige.scaled_dot_product_attention(q, k, v, o):permute{ 1, 3, 2, 4 }
      :reshape{ b, t, width }
  end
end

function M.clip_grad_norm_(vestige)
  --- vestige.clip_grad_norm_(parameters, max_norm, norm_type): scales the gradients of a list of
  -- tensors so that their norm (2, 1 or math.huge) is at most max_norm. Returns the norm before.
  return function(parameters, max_norm, norm_type)
    if vestige.is_tensor(parameters) then parameters = { parameters } end
    local gs = {}
    for _, p in ipairs(parameters) do gs[#gs + 1] = p.grad end
    if #gs == 0 then return vestige.tensor(0) end
    return vestige.no_grad(function()
      local total = vestige.total_norm(gs, norm_type)
      vestige.clip_norm_(gs, total, max_norm)
      return total
    end)
  end
end

return M
