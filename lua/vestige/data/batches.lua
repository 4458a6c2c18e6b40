-- Batches of a data set. The C loader makes x (its threads only move and convert pixels); labels,
-- ids and the other columns are gathered here, planted noise is drawn by the engine.
local ffi = require 'ffi'
local base = require 'vestige.ffi'
local fail = require 'vestige.fail'
local handle = require 'vestige.handle'
local options = require 'vestige.options'
local streams = require 'vestige.data.streams'
local vestige = require 'vestige'
local C, H, check = base.C, base.H, base.check

local M = {}

local Batches = {}
Batches.__index = Batches

local defaults = {
  shuffle = false, augment = { crop = 0, flip = false, shift = 0 },
  drop_last = false, loaders = 1, seed = 0, epoch = 0,
}

local opened = ffi.new 'vestige_loader *[1]'

local function open_loader(x, threads)
  local status = C.vestige_loader_new(opened, x, threads)
  if status < 0 and handle.retry(status) then
    status = C.vestige_loader_new(opened, x, threads)
  end
  check(status)
  return ffi.gc(opened[0], C.vestige_loader_free)
end

local function start(loader, pass)
  local status = C.vestige_loader_start(loader, pass)
  if status < 0 and handle.retry(status) then
    status = C.vestige_loader_start(loader, pass)
  end
  check(status)
end

-- The next batch, or nil at the end of the pass.
local function next_of(loader)
  local x = H()
  local status = C.vestige_loader_next(loader, x)
  if status < 0 and handle.retry(status) then
    status = C.vestige_loader_next(loader, x)
  end
  handle.finish(status, x)
  return x._p ~= nil and x or nil
end

-- A column's elements in host memory, to gather rows from.
local function host(name, t)
  local data, n = t:data()
  local shape, rows = t:shape(), t:size(1)
  return { name = name, data = ffi.cast('const char *', data), anchor = data, shape = shape,
           dtype = t:dtype(), bytes = n > 0 and ffi.sizeof(data) / rows or 0 }
end

local function gather(column, rows, from, n)
  local out = ffi.new('char[?]', math.max(n * column.bytes, 1))
  for i = 0, n - 1 do
    ffi.copy(out + i * column.bytes, column.data + rows[from + i] * column.bytes, column.bytes)
  end
  column.shape[1] = n
  return vestige.from_data(out, column.shape, column.dtype)
end

--- batches.new(ds, batch_size, options): see ds:batches. b:start(epoch, skip) begins a pass, after
-- `skip` batches of it; b:next() gives a batch or nil; b:of_step(step) that of a step; b:count() is
-- the batches of a pass; b:close() ends the threads.
function M.new(ds, batch_size, o)
  o = o or {}
  local shuffle, plain = o.shuffle, {}
  for k, v in pairs(o) do plain[k] = v end
  if type(shuffle) == 'table' and shuffle.stream then plain.shuffle = nil end
  plain = options.merge(defaults, plain, { where = 'batches' })
  if type(batch_size) ~= 'number' or batch_size < 1 or batch_size % 1 ~= 0 then
    fail('batches: batch_size: expected a whole number of at least 1, got %s',
         tostring(batch_size))
  end
  if ds:size() == 0 then fail('batches: the data set is empty') end
  local self = setmetatable({ ds = ds, size = batch_size, o = plain, shuffle = shuffle,
                              columns = {}, at = 0, last = 0 }, Batches)
  for name, t in pairs(ds.columns) do
    if name ~= 'x' then self.columns[#self.columns + 1] = host(name, t) end
    if name == 'id' then self.ids = self.columns[#self.columns] end
  end
  self.id = ffi.cast('const int64_t *', self.ids.data)
  if ds.noise and ds.noise.variance > 0 then
    self.planted = {}
    for _, id in ipairs(ds.noise.ids) do self.planted[id] = true end
    self.row_shape = ds.x:shape()
    table.remove(self.row_shape, 1)
  end
  self.loader = open_loader(ds.x, plain.loaders)
  return self
end

--- b:count(): how many batches a pass has.
function Batches:count()
  local n = self.ds:size()
  return self.o.drop_last and math.floor(n / self.size) or math.ceil(n / self.size)
end

-- The order of the rows in a pass, from 0, and how many of them are used.
local function order_of(self, epoch)
  local n = self.ds:size()
  local rows, list = ffi.new('int64_t[?]', n), nil
  if self.shuffle == true then
    list = streams.permutation(n, vestige.generator(self.o.seed, 'order'), epoch)
  elseif self.shuffle then
    list = streams.permutation(n, self.shuffle)
  end
  for i = 0, n - 1 do rows[i] = list and list[i + 1] - 1 or i end
  return rows, math.min(n, self:count() * self.size)
end

--- b:start(epoch, skip): begins the pass of an epoch after its first `skip` batches (0).
function Batches:start(epoch, skip)
  if not self.loader then fail('batches: they were closed') end
  local rows, count = order_of(self, epoch)
  local from = math.min((skip or 0) * self.size, count)
  local augment, pass = self.o.augment, ffi.new 'vestige_pass'
  local ids = ffi.new('int64_t[?]', math.max(count, 1))
  for i = from, count - 1 do ids[i] = self.id[rows[i]] end
  pass.count, pass.batch, pass.epoch = count - from, self.size, epoch
  pass.rows, pass.ids = rows + from, ids + from
  pass.key = C.vestige_stream_key(self.o.seed, 'augment')
  pass.crop, pass.flip, pass.shift = augment.crop, augment.flip and 1 or 0, augment.shift
  start(self.loader, pass)
  self.rows, self.pass, self.at, self.last = rows, pass, from, count
end

-- Images x (n, H, W, C), the samples with these ids, moved as those of a pass are.
local function moved(x, ids, pass)
  local loader, n, own = open_loader(x, 0), #ids, ffi.new('vestige_pass', pass)
  local rows, numbers = ffi.new('int64_t[?]', n), ffi.new('int64_t[?]', n, ids)
  for i = 0, n - 1 do rows[i] = i end
  own.count, own.batch, own.rows, own.ids = n, n, rows, numbers
  start(loader, own)
  local out = next_of(loader)
  C.vestige_loader_free(ffi.gc(loader, nil))
  return out
end

-- The planted noise of a batch, or nil. It is a part of the image, and moves with it.
local function noise_of(self, from, n)
  local ids, places = {}, {}
  for i = 0, n - 1 do
    local id = tonumber(self.id[self.rows[from + i]])
    if self.planted[id] then
      ids[#ids + 1] = id
      places[#places + 1] = i
    end
  end
  if #ids == 0 then return nil end
  local draws, pass = streams.noise(self.ds.noise.seed, ids, self.row_shape), self.pass
  if pass.crop > 0 or pass.flip > 0 or pass.shift > 0 then draws = moved(draws, ids, pass) end
  local full = { n }
  for i, d in ipairs(self.row_shape) do full[i + 1] = d end
  local out, scale = vestige.zeros(full), math.sqrt(self.ds.noise.variance)
  vestige.no_grad(function()
    for i, place in ipairs(places) do out[place + 1] = draws[i] * scale end
  end)
  return out
end

--- b:next(): the next batch, or nil at the end of the pass.
function Batches:next()
  if not self.loader then return nil end
  local x = next_of(self.loader)
  if not x then return nil end
  local from, n = self.at, math.min(self.size, self.last - self.at)
  local b = { x = x, n = n,
              rows = vestige.from_data(self.rows + from, { n }, 'i64') }
  for _, column in ipairs(self.columns) do
    b[column.name] = gather(column, self.rows, from, n)
  end
  if self.planted then b.noise = noise_of(self, from, n) end
  self.at = from + n
  return b
end

--- b:of_step(step): the batch of a step, from 1, pass after pass. Steps in order go on; another one
-- begins its pass anew, as a loop that was stopped and goes on needs it.
function Batches:of_step(step)
  local count = self:count()
  local epoch, place = math.floor((step - 1) / count), (step - 1) % count
  if step ~= self.next_step or place == 0 then self:start(epoch, place) end
  self.next_step = step + 1
  return self:next()
end

--- b:close(): ends the loader's threads and gives back its memory.
function Batches:close()
  if self.loader then
    C.vestige_loader_free(ffi.gc(self.loader, nil))
    self.loader = nil
  end
end

-- `for b in batches do`: closes itself at the end.
function Batches:__call()
  local b = self:next()
  if not b then self:close() end
  return b
end

return M
