--- What is told about an error: the message, the line it points at, and a traceback that ends
-- where the user's code ends, without the program's own frames.
local fail = require 'vestige.fail'

local M = {}

--- Text of chunks that are in no file, by chunk name as in debug.getinfo's source.
M.sources = {}

-- Frames from these files, and all below, are the program's.
local own = {}

--- Marks the calling file as the program's own: tracebacks stop at its frames.
function M.own_file()
  own[debug.getinfo(2, 'S').source] = true
end

--- An error value as text: a string, what __tostring gives, or the kind of value it is.
function M.message(value)
  if type(value) == 'string' or type(value) == 'number' then return tostring(value) end
  local meta = debug.getmetatable(value)
  if type(meta) == 'table' and rawget(meta, '__tostring') then
    local ok, text = pcall(tostring, value)
    if ok then return text end
  elseif type(value) == 'table' and type(rawget(value, 'message')) == 'string' then
    return rawget(value, 'message')
  end
  return ('the error is a %s, not a message'):format(type(value))
end

local function frame_line(info)
  local place = info.what == 'C' and '[C]' or info.short_src
  if info.currentline > 0 then place = place .. ':' .. info.currentline end
  if info.what == 'main' then return place .. ': in the main chunk' end
  if info.name and info.name ~= '' then return ("%s: in '%s'"):format(place, info.name) end
  if info.what == 'C' then return place end
  return ('%s: in the function of line %d'):format(place, info.linedefined)
end

--- Line `number` of the chunk whose debug source is `source`, or nil.
function M.line(source, number)
  local text = M.sources[source]
  if text then
    for line in (text .. '\n'):gmatch('(.-)\n') do
      number = number - 1
      if number == 0 then return line end
    end
    return nil
  end
  local file = source:sub(1, 1) == '@' and io.open(source:sub(2))
  if not file then return nil end
  local found
  for line in file:lines() do
    number = number - 1
    if number == 0 then found = line break end
  end
  file:close()
  return found
end

local most = 20 -- frames shown of a deep stack: the first half and the last half

--- A message handler for xpcall and the program's run: gives {message=, frames=, quote=, said=,
-- at=}, where frames is the list of lines of the traceback, quote the source line that the message
-- points at, at the innermost line that is not the library's, said whether the message is a text
-- for the user to which frames add nothing: it points at no line (error(text, 0)), or at one that
-- is not running (of a file that does not parse) while only the library is.
function M.handler(value)
  local message = M.message(value)
  local file, number = message:match('^([^-\n][^\n]-):(%d+): ') -- not an option's, of its file
  local frames, quote, started, at, met = {}, nil, false, nil, false
  for level = 2, math.huge do
    local info = debug.getinfo(level, 'nSl')
    if not info or own[info.source] then break end
    started = started or info.what ~= 'C'
    if started then
      if file and not met and info.short_src == file and info.currentline == tonumber(number) then
        met = true
        quote = M.line(info.source, info.currentline)
        frames = {} -- the callee that put the blame here is of no interest
      end
      frames[#frames + 1] = frame_line(info)
      if not at and not fail.is_library(info) then at = frame_line(info) end
    end
  end
  -- What remains at the end is how the chunk was called: C frames of the protected call.
  while #frames > 0 and frames[#frames]:sub(1, 3) == '[C]' do frames[#frames] = nil end
  local count = #frames
  if count > most then
    local short = {}
    for i = 1, most / 2 do short[i] = frames[i] end
    short[#short + 1] = ('... %d more'):format(count - most)
    for i = count - most / 2 + 1, count do short[#short + 1] = frames[i] end
    frames = short
  end
  if file and not met then quote = M.line('@' .. file, tonumber(number)) end
  return { message = message, frames = frames, at = at,
    said = (file == nil or not (met or at)) and type(value) == 'string',
    quote = quote and quote:match('^%s*(.-)%s*$') }
end

--- The report that a handler made, as text. An error that could not be handled (out of memory,
-- an error in the handler) comes as a bare value. Options: typed, the chunk just typed, which is
-- not quoted again.
function M.text(report, options)
  if type(report) ~= 'table' or not report.frames then return M.message(report) end
  options = options or {}
  local out = { report.message }
  local quote = report.quote
  if quote and quote ~= '' and quote ~= options.typed then out[2] = '    ' .. quote end
  if not report.said and #report.frames > 1 then
    out[#out + 1] = 'traceback:'
    for _, frame in ipairs(report.frames) do out[#out + 1] = '  ' .. frame end
  end
  return table.concat(out, '\n')
end

return M
