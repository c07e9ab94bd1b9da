-- The next messages of an inbox, at most so many: the urgent first, then the older; what was offered before and not
-- acknowledged in time has its old place.
-- ARGV  federation, now, agent, offer again at, at most
-- Answers the number of the newest entry, then for each pack: id, what they share, lines, first place, path, expires at,
-- passed on to, times offered, mask of what ended (or empty).
local agent, again_at, most = ARGV[3], ARGV[4], tonumber(ARGV[5])
local box, waiting, pending = key('box', agent), key('waiting', agent), key('pending', agent)

local function left_of(ended, n)
  if not ended then return n end
  local _, gone = string.gsub(ended, '1', '')
  return n - gone
end

-- The place after which so many messages that did not end are taken.
local function line_of(ended, want)
  if not ended then return want end
  local line = 0
  while want > 0 do
    line = line + 1
    if string.byte(ended, line) == 48 then want = want - 1 end
  end
  return line
end

-- A pack in two, so that a part of it can be offered; both wait in the place of the whole.
local function split(entry, known, pack, line)
  local ended, times = redis.call('HGET', box, 'd:' .. entry), redis.call('HGET', box, 'k:' .. entry)
  remove(agent, entry, known.id)
  local head, tail = cut(pack.bodies, line)
  local parts = {{0, line, head}, {line, known.n - line, tail}}
  for i, part in ipairs(parts) do
    local half = {}
    for name, value in pairs(pack) do half[name] = value end
    half.first, half.n, half.bodies = known.first + part[1], part[2], part[3]
    local new = add(agent, half, known.order + part[1] / 4096)
    if times then
      offered(agent, new, known.id)
      redis.call('HSET', box, 'k:' .. new, times)
    end
    if ended then redis.call('HSET', box, 'd:' .. new, string.sub(ended, part[1] + 1, part[1] + part[2])) end
    if i == 1 then entry = new end
  end
  return entry
end

sweep(200)
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', pending, '-inf', now)) do
  redis.call('ZREM', pending, entry)
  redis.call('ZADD', waiting, exact(facts(agent, entry).order), entry)
end
local out = {tonumber(redis.call('HGET', box, 'seq') or 0)}
while most > 0 do
  local entry = redis.call('ZRANGE', waiting, 0, 0)[1]
  if not entry then break end
  local known = facts(agent, entry)
  if known.expires <= now then
    finish(agent, entry, known, 'e', 'expired', ones(known.n))
  else
    local pack, ended = read(agent, entry), redis.call('HGET', box, 'd:' .. entry)
    local left = left_of(ended, known.n)
    if left > most then
      entry = split(entry, known, pack, line_of(ended, most))
      known, pack, ended, left = facts(agent, entry), read(agent, entry), redis.call('HGET', box, 'd:' .. entry), most
    end
    redis.call('ZREM', waiting, entry)
    redis.call('ZADD', pending, again_at, entry)
    local times = offered(agent, entry, known.id)
    out[#out + 1] = {pack.id, pack.header, pack.bodies, pack.first, pack.path, pack.expires, pack.to, times, ended or ''}
    most = most - left
  end
end
return out
