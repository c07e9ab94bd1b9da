-- The next messages of an inbox: first those offered before and not acknowledged in time, then new ones.
-- KEYS  counts, history, inbox, pending, offers
-- ARGV  federation, agent, now (ms), offer again at (ms), at most
-- `offers` holds, by stream id, how often a message was offered; by "i:" and message id, its stream id; "last".
local now, most, out = tonumber(ARGV[3]), tonumber(ARGV[5]), {}
local function fields(list)
  local found = {}
  for i = 1, #list, 2 do found[list[i]] = list[i + 1] end
  return found
end
local function expire(id, entry)
  redis.call('XDEL', KEYS[3], id)
  redis.call('ZREM', KEYS[4], id)
  redis.call('HDEL', KEYS[5], id, 'i:' .. entry.i)
  redis.call('HINCRBY', KEYS[1], 'expired', 1)
  redis.call('XADD', KEYS[2], '*', 'k', 'e', 'f', ARGV[1], 'i', entry.i, 'b', entry.m, 'a', ARGV[2], 'r', 'expired')
end
local function offer(id, entry)
  if tonumber(entry.x) <= now then return expire(id, entry) end
  redis.call('ZADD', KEYS[4], ARGV[4], id)
  redis.call('HSET', KEYS[5], 'i:' .. entry.i, id)
  out[#out + 1] = {entry.m, entry.p, entry.x, redis.call('HINCRBY', KEYS[5], id, 1)}
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, most)) do
  local found = redis.call('XRANGE', KEYS[3], id, id)
  if found[1] then offer(id, fields(found[1][2])) else redis.call('ZREM', KEYS[4], id) end
end
local last = redis.call('HGET', KEYS[5], 'last') or '0-0'
while #out < most do
  local entries = redis.call('XRANGE', KEYS[3], '(' .. last, '+', 'COUNT', most - #out)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    last = entry[1]
    offer(last, fields(entry[2]))
  end
end
redis.call('HSET', KEYS[5], 'last', last)
return out
