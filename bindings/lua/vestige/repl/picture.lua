--- Pictures in the terminal: an upper half block is two pixels, the foreground above the
-- background. True colour; 256 colours where the terminal has no more; shades of ASCII without a
-- terminal or with NO_COLOR. Also usable from scripts: it gives strings and prints nothing.
local term = require 'vestige.term'

local M = {}

--- The way pictures are drawn here: 'true', '256' or 'ascii'.
function M.colour()
  if not term.has_colour() or not term.has_unicode() then return 'ascii' end
  local name = os.getenv('TERM') or ''
  if (os.getenv('COLORTERM') or '') ~= '' then return 'true' end
  local poor = name:find('^screen') or name == 'linux' or name:find('^vt') or
    os.getenv('TERM_PROGRAM') == 'Apple_Terminal'
  return poor and '256' or 'true'
end

local function byte(v)
  if v <= 0 or v ~= v then return 0 end
  return v >= 1 and 255 or math.floor(v * 255 + 0.5)
end

-- The nearest of the 6 x 6 x 6 cube and the 24 grays of a 256-colour terminal.
local steps = { 0, 95, 135, 175, 215, 255 }
local function cube_index(r, g, b)
  local function nearest_step(v)
    local best = 1
    for i = 2, 6 do
      if math.abs(steps[i] - v) < math.abs(steps[best] - v) then best = i end
    end
    return best
  end
  local i, j, k = nearest_step(r), nearest_step(g), nearest_step(b)
  local gray = math.max(0, math.min(23, math.floor(((r + g + b) / 3 - 8) / 10 + 0.5)))
  local level = 8 + 10 * gray
  local function distance(x, y, z) return (x - r) ^ 2 + (y - g) ^ 2 + (z - b) ^ 2 end
  if distance(level, level, level) < distance(steps[i], steps[j], steps[k]) then
    return 232 + gray
  end
  return 16 + 36 * (i - 1) + 6 * (j - 1) + (k - 1)
end

local function code(layer, pixel, colour)
  local r, g, b = pixel[1], pixel[2], pixel[3]
  if colour == '256' then return ('%d;5;%d'):format(layer, cube_index(r, g, b)) end
  return ('%d;2;%d;%d;%d'):format(layer, r, g, b)
end

local shades = ' .:-=+*#%@'

-- The mean of the source pixels that fall on an output pixel, as three bytes.
local function sample(image, i, y0, y1, x0, x1)
  local pixel = {}
  for c = 1, 3 do
    local channel = image.c >= 3 and c or 1
    local sum = 0
    for y = y0, y1 do
      for x = x0, x1 do sum = sum + image.get(i, y, x, channel) end
    end
    pixel[c] = byte(sum / ((y1 - y0 + 1) * (x1 - x0 + 1)))
    if image.c < 3 then
      pixel[2], pixel[3] = pixel[1], pixel[1]
      break
    end
  end
  return pixel
end

local function span(k, out, source)
  local first = math.floor((k - 1) * source / out) + 1
  return first, math.max(first, math.floor(k * source / out))
end

-- One image as a list of strings, each `columns` wide on the screen.
local function rows(image, i, columns, lines, colour)
  local out = {}
  local tall = colour == 'ascii' and lines or 2 * lines
  local function pixel(y, x)
    local y0, y1 = span(y, tall, image.h)
    local x0, x1 = span(x, columns, image.w)
    return sample(image, i, y0, y1, x0, x1)
  end
  for line = 1, lines do
    local cells, last = {}, nil
    for x = 1, columns do
      if colour == 'ascii' then
        local p = pixel(line, x)
        local light = (0.299 * p[1] + 0.587 * p[2] + 0.114 * p[3]) / 255
        local shade = math.min(#shades, math.floor(light * #shades) + 1)
        cells[x] = shades:sub(shade, shade)
      else
        local paint = code(38, pixel(2 * line - 1, x), colour) .. ';' ..
          code(48, pixel(2 * line, x), colour)
        cells[x] = (paint ~= last and '\27[' .. paint .. 'm' or '') .. '▀'
        last = paint
      end
    end
    out[line] = table.concat(cells) .. (colour == 'ascii' and '' or '\27[0m')
  end
  return out
end

local function fitted(title, width)
  local short = term.fit(title, width)
  return short .. (' '):rep(width - term.width(short))
end

--- A batch of images side by side, as a string without a last newline. `image` is {get=, n=, h=,
-- w=, c=}: get(i, y, x, c), each from 1, is a number in [0, 1]; c is 1 (gray) or 3. Options:
-- width= columns in all (the terminal's), colour= 'true' | '256' | 'ascii', titles= a list of
-- strings, most=64 images, group=1: so many neighbours stay on one row where they fit.
--
-- An image is shrunk, never enlarged, to fit the width; the mean is taken over what falls on a
-- pixel.
function M.grid(image, options)
  options = options or {}
  local width = options.width or term.columns()
  local colour = options.colour or M.colour()
  local n = math.min(image.n or 1, options.most or 64)
  local columns = math.max(1, math.min(image.w, width))
  local high = math.max(1, math.floor(image.h * columns / image.w + 0.5))
  local lines = math.max(1, math.floor(high / 2 + 0.5))
  local per_row = math.max(1, math.min(n, math.floor((width + 1) / (columns + 1))))
  local group = options.group or 1
  if per_row > group and per_row < n then per_row = per_row - per_row % group end
  local out = {}
  for first = 1, n, per_row do
    local strips, last = {}, math.min(n, first + per_row - 1)
    for i = first, last do strips[#strips + 1] = rows(image, i, columns, lines, colour) end
    for line = 1, lines do
      local parts = {}
      for k, strip in ipairs(strips) do parts[k] = strip[line] end
      out[#out + 1] = table.concat(parts, ' ')
    end
    if options.titles then
      local parts = {}
      for i = first, last do
        parts[#parts + 1] = fitted(tostring(options.titles[i] or ''), columns)
      end
      out[#out + 1] = table.concat(parts, ' ')
    elseif last < n then
      out[#out + 1] = ''
    end
  end
  if (image.n or 1) > n then out[#out + 1] = ('... %d more'):format(image.n - n) end
  return table.concat(out, '\n')
end

--- One image, as grid() for n = 1: `get(y, x, c)`, each from 1, is a number in [0, 1], for an image
-- of h rows, w columns and c channels (1 or 3).
--
-- > local picture = require 'vestige.repl.picture'
-- > local gray = function(y, x) return (x + y) / 8 end
-- > local text = picture.image(gray, 4, 4, 1, {colour = 'ascii'})
-- > assert(text == '-=+*\n+*%@', text)
function M.image(get, h, w, c, options)
  return M.grid({
    n = 1, h = h, w = w, c = c or 1,
    get = function(_, y, x, channel) return get(y, x, channel) end,
  }, options)
end

return M
