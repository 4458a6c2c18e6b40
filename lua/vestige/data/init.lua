-- vestige.data: data sets: named columns of equal length, rows with stable ids.
--
-- A data set has columns x (images u8 or f32 N,H,W,C with pixels in [0,1] when batched, or numbers
-- f32 N,D), y (labels i64, counted from 0), id (i64, unique) and any others; ds.x reads a column.
-- A data set never changes: its methods make new ones, in which a row keeps its id. Planted noise
-- is no column in memory but (seed, id): it is drawn again for each batch (b.noise) and the model
-- adds it at its input. Batches come from batches.lua, files from readers.lua.
local ffi = require 'ffi'
local fail = require 'vestige.fail'
local nearest = require 'vestige.nearest'
local options = require 'vestige.options'
local sha256 = require 'vestige.sha256'
local streams = require 'vestige.data.streams'
local vestige = require 'vestige'

local M = {}

local Dataset = {}

-- A missing column reads as nil; methods go before columns.
function Dataset.__index(ds, key)
  local method = Dataset[key]
  if method ~= nil then return method end
  local columns = rawget(ds, 'columns')
  return columns and columns[key]
end

function Dataset.__tostring(ds)
  local names = {}
  for name, t in pairs(ds.columns) do
    names[#names + 1] = ('%s %s (%s)'):format(name, t:dtype(), table.concat(t:shape(), ','))
  end
  table.sort(names)
  local planted = ds.noise and (', noise on %d'):format(#ds.noise.ids) or ''
  return ('Dataset of %d: %s%s'):format(ds:size(), table.concat(names, ', '), planted)
end

-- A tensor of a list of whole numbers, each moved by `shift`.
local function integers(list, shift)
  local n = #list
  local data = ffi.new('int64_t[?]', math.max(n, 1))
  for i = 1, n do data[i - 1] = list[i] + (shift or 0) end
  return vestige.from_data(data, { n }, 'i64')
end

local function numbers_of(what, list)
  if vestige.is_tensor(list) then return list:tolist() end
  if type(list) ~= 'table' then fail('%s: expected a list of ids, got %s', what, type(list)) end
  return list
end

-- Where each id is: id -> row.
local function places(ds)
  if not ds._places then
    local map = {}
    for row, id in ipairs(ds.columns.id:tolist()) do map[id] = row end
    rawset(ds, '_places', map)
  end
  return ds._places
end

-- Raises when two rows have one id.
local function check_ids(ds)
  if #ds.columns.id > 0 then
    local map, n = places(ds), 0
    for _ in pairs(map) do n = n + 1 end
    if n == #ds.columns.id then return end
    local seen = {}
    for _, id in ipairs(ds.columns.id:tolist()) do
      if seen[id] then fail('data: id %d stands for two rows', id) end
      seen[id] = true
    end
  end
end

local function row_shape(t)
  local s = t:shape()
  table.remove(s, 1)
  return table.concat(s, ',')
end

local function make(columns, o)
  return setmetatable({ columns = columns, classes = o.classes, noise = o.noise }, Dataset)
end

--- data.new(columns, options): a data set from named tensors of equal length.
-- columns: x (u8, f32 or another type), and as needed y, id (i64; default 0, 1, ...), others.
-- options: classes, the list of class names (class y is classes[y + 1]); first_id (0); noise, as
-- in ds:with_noise.
-- Errors: no x, lengths that differ, an id twice, labels outside classes.
-- Example:
-- > local data = require 'vestige.data'
-- > local ds = data.new{ x = vestige.zeros{ 3, 2 }, y = vestige.zeros({ 3 }, { dtype = 'i64' }) }
-- > assert(ds:size() == 3 and ds.x:size(2) == 2)
function M.new(columns, o)
  o = o or {}
  local kept = {}
  if not vestige.is_tensor(columns.x) then fail('data: column x: expected a tensor') end
  if columns.x:dim() == 0 then fail('data: column x has no rows') end
  local n = columns.x:size(1)
  for name, t in pairs(columns) do
    if not vestige.is_tensor(t) then
      fail('data: column %s: expected a tensor, got %s', name, type(t))
    elseif t:dim() == 0 or t:size(1) ~= n then
      fail('data: column %s: expected %d rows, got shape (%s)', name, n,
           table.concat(t:shape(), ','))
    elseif Dataset[name] then
      fail('data: column %s: a data set has a method of that name', name)
    end
    kept[name] = t:detach():keep()
  end
  if not kept.id then
    local ids, first = {}, o.first_id or 0
    for i = 1, n do ids[i] = first + i - 1 end
    kept.id = integers(ids):keep()
  end
  if kept.id:dtype() ~= 'i64' or kept.id:dim() ~= 1 then
    fail('data: column id: expected i64 of one dimension, got %s', kept.id:dtype())
  end
  local ds = make(kept, { classes = o.classes })
  check_ids(ds)
  if kept.y and o.classes and kept.y:dtype() == 'i64' then
    for row, y in ipairs(kept.y:tolist()) do
      if y < 0 or y >= #o.classes then
        fail('data: label %d of row %d is not one of %d classes', y, row, #o.classes)
      end
    end
  end
  return o.noise and ds:with_noise(o.noise) or ds
end

--- data.open(dir, options): {train, test, classes, kind} with data sets, from CIFAR-10's binary
-- files, IDX files, CSV, or a folder of images by class; see vestige.data.readers.
-- options: limit, the most rows of each part (the first ones). Ids count on from train to test.
-- Errors: the reader's.
function M.open(dir, o)
  o = options.merge({ limit = options.maybe 'number' }, o or {}, { where = 'data.open' })
  local read = require('vestige.data.readers').open(dir)
  local out = { classes = read.classes, kind = read.kind }
  local first = 0
  for _, part in ipairs { 'train', 'test' } do
    if read[part] then
      local ds = M.new(read[part], { classes = read.classes, first_id = first })
      first = first + ds:size()
      if o.limit and o.limit < ds:size() then ds = ds:first(o.limit) end
      out[part] = ds
    end
  end
  return out
end

--- data.is_dataset(x): whether x is a data set.
function M.is_dataset(x)
  return getmetatable(x) == Dataset
end

--- ds:size(): how many rows.
function Dataset:size()
  return self.columns.id:size(1)
end

--- ds:ids(): the list of ids, in the order of the rows.
function Dataset:ids()
  return self.columns.id:tolist()
end

--- ds:rows(ids): the positions (from 1) of ids, a list or an i64 tensor.
-- Errors: an id that is not there.
function Dataset:rows(ids)
  local map, rows = places(self), {}
  for i, id in ipairs(numbers_of('rows', ids)) do
    rows[i] = map[id]
    if not rows[i] then fail('data: no row has id %s', tostring(id)) end
  end
  return rows
end

-- The noise that is planted on rows of a data set with these ids.
local function noise_within(noise, map)
  if not noise then return nil end
  local ids = {}
  for _, id in ipairs(noise.ids) do
    if map[id] then ids[#ids + 1] = id end
  end
  if #ids == 0 then return nil end
  return { seed = noise.seed, variance = noise.variance, ids = ids }
end

-- The rows at positions, in that order.
local function take(ds, rows)
  local columns = {}
  vestige.scope(function()
    local index = integers(rows, -1)
    for name, t in pairs(ds.columns) do columns[name] = vestige.index_select(t, 1, index):keep() end
  end)
  local out = make(columns, { classes = ds.classes })
  check_ids(out)
  out.noise = noise_within(ds.noise, places(out))
  return out
end

--- ds:subset(ids): the rows with these ids, in their order. ds:subset{rows = list} takes positions,
-- from 1.
-- Example:
-- > local ds = vestige.data.new{ x = vestige.tensor{ { 1 }, { 2 }, { 3 } } }
-- > assert(ds:subset{ 2, 0 }.x[1]:item() == 3 and ds:subset{ rows = { 1 } }:ids()[1] == 0)
function Dataset:subset(ids)
  local rows = type(ids) == 'table' and ids.rows
  if not rows then return take(self, self:rows(ids)) end
  rows = numbers_of('subset', rows)
  for _, row in ipairs(rows) do
    if row ~= math.floor(row) or row < 1 or row > self:size() then
      fail('subset: row %s: expected 1 to %d', tostring(row), self:size())
    end
  end
  return take(self, rows)
end

--- ds:first(n): the first n rows.
function Dataset:first(n)
  local rows = {}
  for i = 1, math.min(n, self:size()) do rows[i] = i end
  return take(self, rows)
end

--- ds:without(ids): all rows but these.
function Dataset:without(ids)
  local gone, rows = {}, {}
  for _, row in ipairs(self:rows(ids)) do gone[row] = true end
  for row = 1, self:size() do
    if not gone[row] then rows[#rows + 1] = row end
  end
  return take(self, rows)
end

-- The number of a class given by number or name.
local function class_number(ds, c)
  if type(c) == 'number' then return c end
  for i, name in ipairs(ds.classes or {}) do
    if name == c then return i - 1 end
  end
  return fail("data: no class '%s'%s", tostring(c), nearest.hint(tostring(c), ds.classes or {}))
end

--- ds:class_number(c): the number (from 0) of a class given by number or name.
-- Errors: an unknown name, with the nearest one.
function Dataset:class_number(c) return class_number(self, c) end

--- ds:class(c): the rows of one class; c: its number (from 0) or its name.
-- Errors: an unknown name, with the nearest one.
function Dataset:class(c)
  local label, rows = class_number(self, c), {}
  if not self.columns.y then fail('class: the data set has no labels') end
  for row, y in ipairs(self.columns.y:tolist()) do
    if y == label then rows[#rows + 1] = row end
  end
  return take(self, rows)
end

local function check_stream(what, rng)
  if type(rng) ~= 'table' or not rng.stream then
    fail('%s: rng: expected a stream (vestige.generator or ctx.rng), got %s', what, type(rng))
  end
end

local function part(list, from, to)
  local out = {}
  for i = from, to do out[#out + 1] = list[i] end
  return out
end

--- ds:sample(n, rng): n rows at random, without repetition; rng: a stream (vestige.generator).
function Dataset:sample(n, rng)
  check_stream('sample', rng)
  if n ~= math.floor(n) or n < 0 or n > self:size() then
    fail('sample: expected a whole number from 0 to %d, got %s', self:size(), tostring(n))
  end
  return take(self, part(streams.permutation(self:size(), rng), 1, n))
end

--- ds:split(fraction, rng): two data sets: a random share of the rows, and the others.
-- Rows keep their order within each.
function Dataset:split(fraction, rng)
  check_stream('split', rng)
  if not (fraction >= 0 and fraction <= 1) then
    fail('split: fraction: expected 0 to 1, got %s', tostring(fraction))
  end
  local n = self:size()
  local cut = math.floor(fraction * n + 0.5)
  local rows = streams.permutation(n, rng)
  local a, b = part(rows, 1, cut), part(rows, cut + 1, n)
  table.sort(a)
  table.sort(b)
  return take(self, a), take(self, b)
end

-- ---- Changing rows ----

-- Pixels as numbers, exactly as the loader makes them.
local function as_numbers(t)
  return t:to 'f32' / 255
end

-- Two columns that can stand in one: bytes become numbers where the other has numbers.
local function alike(what, name, a, b)
  if row_shape(a) ~= row_shape(b) then
    fail('%s: column %s: expected rows of shape (%s), got (%s)', what, name, row_shape(a),
         row_shape(b))
  end
  local ta, tb = a:dtype(), b:dtype()
  if ta == tb then return a, b end
  if name == 'x' and ta == 'u8' and tb == 'f32' then return as_numbers(a), b end
  if name == 'x' and ta == 'f32' and tb == 'u8' then return a, as_numbers(b) end
  return fail('%s: column %s: expected %s, got %s', what, name, ta, tb)
end

-- Rows `rows` of t, replaced by those of new.
local function put(what, name, t, rows, new)
  if new:dim() == 0 or new:size(1) ~= #rows then
    fail('%s: column %s: expected %d rows, got shape (%s)', what, name, #rows,
         table.concat(new:shape(), ','))
  end
  local old, fresh = alike(what, name, t, new)
  local from = {}
  for row = 1, t:size(1) do from[row] = row - 1 end
  for i, row in ipairs(rows) do from[row] = t:size(1) + i - 1 end
  return vestige.index_select(vestige.cat({ old, fresh }, 1), 1, integers(from))
end

--- ds:replace(ids, columns): a copy in which the rows with these ids have other values.
-- columns: tensors whose rows stand in the order of ids; columns left out stay. Ids stay. Bytes and
-- numbers meet as numbers in [0,1].
-- Errors: an id that is not there; another number or shape of rows.
function Dataset:replace(ids, columns)
  local rows, new = self:rows(ids), {}
  for name, t in pairs(self.columns) do new[name] = t end
  vestige.scope(function()
    for name, t in pairs(columns) do
      if name == 'id' or not self.columns[name] then
        fail("replace: no column '%s' to replace%s", name, nearest.hint(name, self.columns))
      end
      new[name] = put('replace', name, self.columns[name], rows, t):keep()
    end
  end)
  return make(new, self)
end

--- ds:relabel(ids, y): a copy in which the rows with these ids have label y.
-- y: a class (number or name) for all, or a list or i64 tensor of numbers, in the order of ids.
function Dataset:relabel(ids, y)
  local list = numbers_of('relabel', ids)
  if type(y) == 'number' or type(y) == 'string' then
    local label, labels = class_number(self, y), {}
    for i = 1, #list do labels[i] = label end
    y = labels
  end
  if not vestige.is_tensor(y) then y = integers(y) end
  return self:replace(list, { y = y })
end

--- ds:append(other): a copy with the rows of another data set at its end.
-- other: a data set with the same columns and ids of its own; or a table of columns, whose rows get
-- the ids after the largest.
-- Errors: a column that only one has; an id twice; different planted noise.
function Dataset:append(other)
  if not M.is_dataset(other) then
    local first = 0
    for _, id in ipairs(self:ids()) do first = math.max(first, id + 1) end
    other = M.new(other, { classes = self.classes, first_id = first })
  end
  local columns = {}
  for name in pairs(other.columns) do
    if not self.columns[name] then fail('append: only the appended rows have column %s', name) end
  end
  vestige.scope(function()
    for name, t in pairs(self.columns) do
      if not other.columns[name] then fail('append: the appended rows lack column %s', name) end
      local a, b = alike('append', name, t, other.columns[name])
      columns[name] = vestige.cat({ a, b }, 1):keep()
    end
  end)
  local out = make(columns, self)
  check_ids(out)
  if other.noise then
    out.noise = nil
    local a, b = self.noise, other.noise
    if a and (a.seed ~= b.seed or a.variance ~= b.variance) then
      fail('append: the parts have different planted noise')
    end
    local ids = {}
    for _, id in ipairs(a and a.ids or {}) do ids[#ids + 1] = id end
    for _, id in ipairs(b.ids) do ids[#ids + 1] = id end
    out.noise = { seed = b.seed, variance = b.variance, ids = ids }
  end
  return out
end

--- ds:with_noise{seed=, variance=, ids=}: a copy with Gaussian noise planted on the rows with these
-- ids (in units of the model's normalised input). The noise is regenerated from
-- (seed, id), not stored: batches have it as b.noise, data.noise draws it.
-- Errors: an id that is not there; a negative variance.
function Dataset:with_noise(o)
  o = options.merge({ seed = 0, variance = 0, ids = {} }, o, { where = 'with_noise' })
  if not (o.variance >= 0 and o.variance < math.huge) then
    fail('with_noise: variance: expected at least 0, got %s', tostring(o.variance))
  end
  self:rows(o.ids)
  return make(self.columns, { classes = self.classes, noise = o })
end

--- data.noise(seed, ids, shape): N(0,1) draws xi for the samples with these ids: (#ids, shape...).
-- A sample's draw depends on (seed, id) alone. What is planted is sqrt(variance) xi.
-- Example:
-- > local a, b = vestige.data.noise(1, { 7, 9 }, { 2 }), vestige.data.noise(1, { 9 }, { 2 })
-- > assert((a[2] - b[1]):abs():sum():item() == 0)
M.noise = streams.noise

--- ds:without_noise(): a copy without planted noise.
function Dataset:without_noise()
  return make(self.columns, { classes = self.classes })
end

--- ds:hash(): SHA-256 of the content: columns, classes, planted noise. Where files lie is no part.
function Dataset:hash()
  if self._hash then return self._hash end
  local names, hash = {}, sha256.new()
  for name in pairs(self.columns) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local t = self.columns[name]
    local head = ('%s %s %s\n'):format(name, t:dtype(), table.concat(t:shape(), ','))
    local array, n = t:data()
    hash:update(head):update(array, n > 0 and ffi.sizeof(array) or 0)
  end
  hash:update(table.concat(self.classes or {}, '\n'))
  if self.noise then
    hash:update(('\nnoise %.17g %.17g %s'):format(self.noise.seed, self.noise.variance,
                                                   table.concat(self.noise.ids, ',')))
  end
  rawset(self, '_hash', hash:hex())
  return self._hash
end

--- ds:batches(batch_size, options): an iterator over batches b with b.x (f32 in [0,1] for images),
-- b.y, b.id, b.rows (positions, from 0, as index_select takes them), b.noise (planted, nil when the
-- batch has none), the other columns, and b.n, how many rows.
-- options: shuffle (false): true for an order from (seed, epoch), or a stream that is drawn from;
-- augment: {crop=pixels, flip=bool, shift=pixels}; drop_last (false); loaders (1): threads, which
-- change nothing but speed; seed (0), epoch (0). A loop that is left early may call close() on the
-- iterator; the collector does it otherwise.
-- Example:
-- > local ds = vestige.data.new{ x = vestige.zeros{ 5, 2 } }
-- > local n = 0
-- > for b in ds:batches(2) do n = n + b.n end
-- > assert(n == 5)
function Dataset:batches(batch_size, o)
  local loader = require('vestige.data.batches').new(self, batch_size, o)
  loader:start(o and o.epoch or 0)
  return loader
end

return M
