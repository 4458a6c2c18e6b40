--- Splits Lua source into tokens for completion: tolerant of text that is not finished.
local M = {}

M.keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat
  return then true until while]]):gmatch('%a+') do M.keywords[word] = true end

-- Where the long bracket that opens at `from` ends, and its content; nil if none opens there.
local function long_bracket(text, from)
  local equals = text:match('^%[(=*)%[', from)
  if not equals then return nil end
  local first, last = text:find(']' .. equals .. ']', from, true)
  local start = from + #equals + 2
  return last or #text, text:sub(start, (first or #text + 1) - 1), first ~= nil
end

local function quoted(text, from)
  local mark = text:sub(from, from)
  local i = from + 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == '\\' then
      i = i + 1
    elseif c == mark then
      return i, text:sub(from + 1, i - 1), true
    elseif c == '\n' then
      break
    end
    i = i + 1
  end
  return #text, text:sub(from + 1), false
end

--- The tokens of `text`: a list of {kind=, text=, first=, last=, open=}, kind one of name, keyword,
-- number, string, comment, mark. An unfinished string or comment at the end has open = true.
function M.tokens(text)
  local out, i = {}, 1
  local function put(kind, last, content, open)
    out[#out + 1] = { kind = kind, text = content or text:sub(i, last), first = i, last = last,
      open = open }
    i = last + 1
  end
  while true do
    i = text:find('%S', i)
    if not i then return out end
    local c = text:sub(i, i)
    if text:find('^%-%-', i) then
      local last, _, closed = long_bracket(text, i + 2)
      if last then
        put('comment', last, nil, not closed)
      else
        local stop = text:find('\n', i, true)
        put('comment', (stop or #text + 1) - 1, nil, not stop)
      end
    elseif c == '"' or c == "'" then
      local last, content, closed = quoted(text, i)
      put('string', last, content, not closed)
    elseif text:find('^%[=*%[', i) then
      local last, content, closed = long_bracket(text, i)
      put('string', last, content, not closed)
    elseif c:find('[%a_]') then
      local last = select(2, text:find('^[%w_]+', i))
      put(M.keywords[text:sub(i, last)] and 'keyword' or 'name', last)
    elseif c:find('%d') then
      put('number', select(2, text:find('^[%w_.]+', i)))
    elseif text:find('^%.%.%.', i) then
      put('mark', i + 2)
    elseif text:find('^%.%.', i) or text:find('^[=~<>]=', i) then
      put('mark', i + 1)
    else
      put('mark', i)
    end
  end
end

return M
