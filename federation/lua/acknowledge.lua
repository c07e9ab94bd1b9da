-- Offered messages are done with. Unknown ids, and those acknowledged before, change nothing.
-- ARGV  federation, now, agent, then for each pack: id, mask
-- Answers how many were waiting for it; then what is only passed on by this agent, and is to go further:
-- entry, path and whom it is for, of each.
local agent = ARGV[3]
local box = key('box', agent)
local done, further = 0, {}

local function wanted_of(mask, known)
  local wanted = string.sub(mask, known.first + 1, known.first + known.n)
  return wanted .. string.rep('0', known.n - #wanted)
end

local function acknowledge(entry, mask)
  local known = facts(agent, entry)
  if not known then return end
  local wanted = wanted_of(mask, known)
  if known.expires <= now then
    finish(agent, entry, known, 'e', 'expired', ones(known.n))
  elseif known.to == '' then
    done = done + finish(agent, entry, known, 'a', '', wanted)
  elseif wanted == '1' then
    local pack = read(agent, entry)
    further[#further + 1] = {entry, pack.path, pack.to}
  end
end

sweep(200)
for i = 4, #ARGV, 2 do
  local entries = redis.call('HGET', box, 'i:' .. ARGV[i])
  for entry in string.gmatch(entries or '', '%S+') do acknowledge(entry, ARGV[i + 1]) end
end
table.insert(further, 1, done)
return further
