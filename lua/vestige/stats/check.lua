-- Argument checks of vestige.stats: one sentence that names function, argument and what was
-- expected, raised at the caller's line outside lua/vestige.
local M = {}

local root = debug.getinfo(1, 'S').source:match('^@(.*)stats[/\\]check%.lua$')

local function ours(source)
  return root ~= nil and source:sub(2, #root + 1) == root
end

--- Raises `message` (with string.format's arguments) at the nearest frame that is neither C nor
--- part of this library.
function M.fail(message, ...)
  if select('#', ...) > 0 then message = message:format(...) end
  local level = 2
  local frame = debug.getinfo(level, 'S')
  while frame and (frame.what == 'C' or ours(frame.source)) do
    level = level + 1
    frame = debug.getinfo(level, 'S')
  end
  error(message, frame and level or 0)
end

local function show(v)
  if type(v) == 'string' then return ('"%s"'):format(v) end
  if type(v) == 'number' then return ('%.10g'):format(v) end
  if v == nil then return 'nothing' end
  return 'a ' .. type(v)
end

local function wrong(where, name, expected, v)
  M.fail('%s: %s must be %s, got %s', where, name, expected, show(v))
end

--- Any number but NaN; infinities pass.
function M.number(where, name, v)
  if type(v) ~= 'number' or v ~= v then wrong(where, name, 'a number', v) end
end

--- A number that is neither NaN nor infinite.
function M.finite(where, name, v)
  if type(v) ~= 'number' or v - v ~= 0 then wrong(where, name, 'a finite number', v) end
end

--- A number above 0; infinity passes.
function M.positive(where, name, v)
  if type(v) ~= 'number' or v ~= v or v <= 0 then wrong(where, name, 'a number > 0', v) end
end

--- A finite number above 0.
function M.finite_positive(where, name, v)
  if type(v) ~= 'number' or v - v ~= 0 or v <= 0 then
    wrong(where, name, 'a finite number > 0', v)
  end
end

--- A shape parameter or degrees of freedom. Beyond `high` the expansions would take seconds, below
--- 1e-10 the distribution has all its mass at the ends.
function M.shape(where, name, v, high)
  high = high or 1e12
  if type(v) ~= 'number' or v ~= v or v < 1e-10 or v > high then
    wrong(where, name, ('a number from 1e-10 to %g'):format(high), v)
  end
end

--- A number of at least 0; infinity passes.
function M.not_negative(where, name, v)
  if type(v) ~= 'number' or v ~= v or v < 0 then wrong(where, name, 'a number >= 0', v) end
end

--- A probability, both ends allowed.
function M.probability(where, name, v)
  if type(v) ~= 'number' or v ~= v or v < 0 or v > 1 then
    wrong(where, name, 'a number from 0 to 1', v)
  end
end

--- A level or share, both ends excluded.
function M.share(where, name, v)
  if type(v) ~= 'number' or v ~= v or v <= 0 or v >= 1 then
    wrong(where, name, 'a number between 0 and 1', v)
  end
end

--- A whole number from low to high, or of at least low.
function M.integer(where, name, v, low, high)
  if type(v) ~= 'number' or v % 1 ~= 0 or v < low or v > (high or 2^53) then
    local range = high and ('from %.0f to %.0f'):format(low, high) or ('>= %.0f'):format(low)
    wrong(where, name, 'a whole number ' .. range, v)
  end
end

--- A function.
function M.callable(where, name, v)
  if type(v) ~= 'function' then wrong(where, name, 'a function', v) end
end

--- An array of at least `least` finite numbers.
function M.array(where, name, v, least)
  if type(v) ~= 'table' then wrong(where, name, 'an array of numbers', v) end
  local n = #v
  if n < least then
    M.fail('%s: %s must hold at least %d number%s, got %d', where, name, least,
      least == 1 and '' or 's', n)
  end
  for i = 1, n do
    local e = v[i]
    if type(e) ~= 'number' or e - e ~= 0 then
      wrong(where, ('%s[%d]'):format(name, i), 'a finite number', e)
    end
  end
  return n
end

--- Two arrays of the same length, element i of both about the same thing.
function M.pairs(where, name_x, x, name_y, y, least)
  local n = M.array(where, name_x, x, least)
  local m = M.array(where, name_y, y, least)
  if n ~= m then
    M.fail('%s: %s and %s are paired and must have the same length, got %d and %d', where, name_x,
      name_y, n, m)
  end
  return n
end

-- Levenshtein's distance, for the nearest name of a mistyped option.
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local corner = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and corner or corner + 1
      corner = row[j]
      row[j] = math.min(cost, row[j] + 1, row[j - 1] + 1)
    end
  end
  return row[#b]
end

--- A copy of `defaults` (false: no default) overridden by `options`; unknown names raise.
function M.options(where, options, defaults)
  if options ~= nil and type(options) ~= 'table' then
    wrong(where, 'options', 'a table', options)
  end
  local merged = {}
  for name, v in pairs(defaults) do merged[name] = v end
  for name, v in pairs(options or {}) do
    if defaults[name] == nil then
      local names = {}
      for known in pairs(defaults) do names[#names + 1] = known end
      table.sort(names)
      local text, nearest, least = tostring(name), nil, math.huge
      for _, known in ipairs(names) do
        local d = distance(text, known)
        if d < least then nearest, least = known, d end
      end
      local hint = least <= math.max(2, #text / 3) and (' (did you mean "%s"?)'):format(nearest)
        or ''
      M.fail('%s: no option "%s"%s; the options are %s', where, text, hint,
        table.concat(names, ', '))
    end
    merged[name] = v
  end
  return merged
end

--- One of the words in `words`.
function M.word(where, name, v, words)
  for _, w in ipairs(words) do
    if v == w then return end
  end
  wrong(where, name, '"' .. table.concat(words, '" or "') .. '"', v)
end

return M
