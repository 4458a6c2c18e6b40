-- The nearest name to a mistyped one: options, operators, attacks, methods all ask here.

local M = {}

--- nearest.distance(a, b): edit distance between two strings (optimal string alignment).
-- Counts insertions, deletions, replacements and swaps of neighbours, byte by byte.
-- Example:
-- > assert(require('vestige.nearest').distance('epohcs', 'epochs') == 1)
function M.distance(a, b)
  local before, last = {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local ca, cb = a:byte(i), b:byte(j)
      local best = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (ca == cb and 0 or 1))
      if i > 1 and j > 1 and ca == b:byte(j - 1) and a:byte(i - 1) == cb then
        best = math.min(best, before[j - 2] + 1)
      end
      row[j] = best
    end
    before, last = last, row
  end
  return last[#b]
end

-- How far `word` is from `name`; the last part of a dotted name counts as the name itself,
-- so that `epochs` finds `train.epochs`.
local function far(word, name)
  local tail = name:match('([^.]+)$') or name
  local whole = M.distance(word, name)
  if tail == name or word:find('.', 1, true) then return whole end
  return math.min(whole, M.distance(word, tail) + 0.5)
end

--- nearest.find(word, names): the name closest to `word`, or nil when none is close.
-- names: a list of strings, or a table whose string keys are the names.
-- Close is at most a third of the word's length in edits, and at least one edit is allowed;
-- ties go to the first in alphabetical order.
-- Example:
-- > local nearest = require 'vestige.nearest'
-- > assert(nearest.find('epohcs', {'train.epochs', 'train.lr'}) == 'train.epochs')
-- > assert(nearest.find('zebra', {'train.epochs', 'train.lr'}) == nil)
function M.find(word, names)
  local list = {}
  for key, value in pairs(names) do list[#list + 1] = type(key) == 'string' and key or value end
  table.sort(list)
  local limit = math.max(1, math.floor(#word / 3)) + 0.5
  local best, at = nil, math.huge
  for _, name in ipairs(list) do
    local d = far(word:lower(), name:lower())
    if d < at then best, at = name, d end
  end
  if at <= limit then return best end
  return nil
end

--- nearest.hint(word, names): `; did you mean 'x'?` to end an error message with, or ''.
-- names: as in nearest.find.
-- Example:
-- > local nearest = require 'vestige.nearest'
-- > assert(nearest.hint('epoch', {'epochs'}) == "; did you mean 'epochs'?")
function M.hint(word, names)
  local name = M.find(tostring(word), names)
  return name and ("; did you mean '%s'?"):format(name) or ''
end

return M
