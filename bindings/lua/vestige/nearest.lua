--- The nearest name: what "did you mean" suggests after a typo.
local M = {}

--- Edits between two strings, where inserting, dropping, replacing a byte or swapping two
-- neighbours counts one; more than `limit` gives limit + 1.
function M.distance(a, b, limit)
  limit = limit or math.huge
  if math.abs(#a - #b) > limit then return limit + 1 end
  local before, last, row = {}, {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    row[0] = i
    local best = i
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local d = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        d = math.min(d, before[j - 2] + 1)
      end
      row[j] = d
      best = math.min(best, d)
    end
    if best > limit then return limit + 1 end
    before, last, row = last, row, before
  end
  return last[#b]
end

--- The name in the list `names` that is nearest to `word`, or nil if none is near: a third of the
-- word's letters may differ, and a name that begins with the word or ends in it counts as near.
--
-- > nearest.name('stride', {'strides', 'padding'})   -- 'strides'
function M.name(word, names)
  local limit = math.max(1, math.floor(#word / 3))
  local best, cost
  local lower = word:lower()
  for _, name in ipairs(names) do
    local d = M.distance(lower, name:lower(), limit)
    local part = #word > 2 and (name:sub(1, #word) == word or name:sub(-#word) == word)
    if d > limit and part then d = limit + 0.5 end
    if d <= limit + 0.5 and (not cost or d < cost or (d == cost and name < best)) then
      best, cost = name, d
    end
  end
  return best
end

--- The sentence to add to a message about an unknown `word`: "; did you mean 'x'?" or "".
function M.hint(word, names)
  local name = M.name(word, names)
  return name and ("; did you mean '%s'?"):format(name) or ''
end

return M
