-- What an agent only passes on.
-- ARGV  federation, now, agent
-- Answers entry, path and whom it is for, of each.
local inbox, start, found = key('inbox', ARGV[3]), '-', {}
while true do
  local entries = redis.call('XRANGE', inbox, start, '+', 'COUNT', 500)
  if #entries == 0 then break end
  for _, each in ipairs(entries) do
    local pack = packed(each[2])
    if pack.to ~= '' then found[#found + 1] = {each[1], pack.path, pack.to} end
    start = '(' .. each[1]
  end
end
return found
