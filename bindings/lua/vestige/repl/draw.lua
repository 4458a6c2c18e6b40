--- The globals show(x) and plot(x): pictures and curves in the terminal.
--
-- What an image or a list of numbers is, the modules that have them tell: an adapter registered
-- here turns a value into the plain form that picture.lua and chart.lua draw.
local picture = require 'vestige.repl.picture'
local chart = require 'vestige.repl.chart'
local text = require 'vestige.repl.show'

local M = {}

local images, series = {}, {}

--- Adds an adapter for pictures: `adapt(value)` gives nil or {get=, n=, h=, w=, c=} where
-- get(i, y, x, c), all from 1, is a number in [0, 1] (see picture.grid).
function M.register_image(adapt)
  table.insert(images, 1, adapt)
end

--- Adds an adapter for curves: `adapt(value)` gives nil or a list of numbers.
function M.register_series(adapt)
  table.insert(series, 1, adapt)
end

local function adapted(adapters, value)
  for _, adapt in ipairs(adapters) do
    local result = adapt(value)
    if result then return result end
  end
end

--- Draws an image or a batch of images in the terminal; any other value is printed as the prompt
-- prints it. Options: width= columns, colour= 'true' | '256' | 'ascii', titles= a list of strings
-- under the images.
--
-- show(batch.x)
function M.show(value, options)
  local image = adapted(images, value)
  if image then
    io.write(picture.grid(image, options), '\n')
  else
    print(text.text(value))
  end
end

local function numbers(value, what)
  if type(value) == 'table' and debug.getmetatable(value) == nil then
    for i, v in ipairs(value) do
      if type(v) ~= 'number' then
        error(('plot: %s[%d] is a %s, not a number'):format(what, i, type(v)), 3)
      end
    end
    if #value > 0 then return value end
  end
  local list = adapted(series, value)
  if not list then
    error(('plot: %s is no list of numbers (a %s)'):format(what, type(value)), 3)
  end
  return list
end

--- Draws a curve or a histogram in the terminal. plot(y), plot(x, y); options at the end:
-- kind='curve' | 'hist', bins=20, width=, height=16, title=, lo=, hi= (the range of a histogram).
--
-- plot({1, 4, 9, 16})
function M.plot(...)
  local args = { ... }
  local options = {}
  local last = args[#args]
  if #args > 1 and type(last) == 'table' and rawget(last, 1) == nil and
      debug.getmetatable(last) == nil then
    options = table.remove(args)
  end
  local a = numbers(args[1], #args > 1 and 'x' or 'y')
  local b = args[2] ~= nil and numbers(args[2], 'y') or nil
  if options.kind == 'hist' or options.kind == 'histogram' then
    io.write(chart.histogram(a, options), '\n')
  else
    io.write(chart.curve(b and a or nil, b or a, options), '\n')
  end
end

return M
