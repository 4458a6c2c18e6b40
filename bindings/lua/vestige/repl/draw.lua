--- The globals show(x) and plot(x): pictures and curves in the terminal.
--
-- What an image or a list of numbers is, the modules that have them tell: an adapter registered
-- here turns a value into the plain form that picture.lua and vestige.chart draw.
local fail = require 'vestige.fail'
local nearest = require 'vestige.nearest'
local picture = require 'vestige.repl.picture'
local chart = require 'vestige.chart'
local text = require 'vestige.repl.show'

fail.library(debug.getinfo(1, 'S').source:match '^@(.*)/[^/]*$')

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
  -- A tensor exists only where the engine is loaded; it registers how tensors are read.
  if type(value) == 'cdata' and package.loaded['vestige.ffi'] then require 'vestige.repl.engine' end
  for _, adapt in ipairs(adapters) do
    local result = adapt(value)
    if result then return result end
  end
end

--- Draws an image or a batch of images in the terminal; any other value is printed as the prompt
-- prints it. Options: width= columns, colour= 'true' | '256' | 'ascii', titles= a list of strings
-- under the images, group= how many neighbours stay on one row.
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

local known = { 'kind', 'title', 'label', 'width', 'height', 'low', 'high', 'bottom', 'top', 'bins',
  'points', 'density', 'colour', 'unicode' }

local function check_options(options)
  for name in pairs(options) do
    local fine = false
    for _, option in ipairs(known) do fine = fine or option == name end
    if not fine then
      fail("plot: unknown option '%s'%s", tostring(name), nearest.hint(tostring(name), known))
    end
  end
end

local function numbers(value, what)
  if type(value) == 'table' and debug.getmetatable(value) == nil then
    for i, v in ipairs(value) do
      if type(v) ~= 'number' then
        fail('plot: %s[%d] is a %s, not a number', what, i, type(v))
      end
    end
    if #value > 0 then return value end
  end
  local list = adapted(series, value)
  if not list then
    fail('plot: %s is no list of numbers (a %s)', what, type(value))
  end
  return list
end

--- Draws a curve or a histogram in the terminal. plot(y), plot(x, y); options at the end:
-- kind='curve' | 'hist', and those of chart.curves or chart.histogram: title=, label=, width=,
-- height=, low=, high=, bins=, points=.
--
-- plot({1, 4, 9, 16})
function M.plot(...)
  local args = { ... }
  local options = {}
  local last = args[#args]
  if #args > 1 and type(last) == 'table' and rawget(last, 1) == nil and
      debug.getmetatable(last) == nil then
    options = table.remove(args)
    check_options(options)
  end
  local a = numbers(args[1], #args > 1 and 'x' or 'y')
  local b = args[2] ~= nil and numbers(args[2], 'y') or nil
  if options.kind == 'hist' or options.kind == 'histogram' then
    io.write(chart.histogram(a, options), '\n')
    return
  elseif options.kind and options.kind ~= 'curve' then
    fail("plot: kind is 'curve' or 'hist', not '%s'", tostring(options.kind))
  end
  local x, y = a, b
  if not y then
    x, y = {}, a
    for i = 1, #y do x[i] = i end
  elseif #x ~= #y then
    fail('plot: x has %d numbers, y has %d', #x, #y)
  end
  io.write(chart.curves({ { x = x, y = y } }, options), '\n')
end

return M
