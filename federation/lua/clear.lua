-- Ends what is in an inbox: everything (ARGV[3] = "all": the agent left), or what has expired.
-- KEYS  counts, history, inbox, pending, offers
-- ARGV  federation, agent, "all" or now (ms)
-- Answers how many messages are left.
local all = ARGV[3] == 'all'
local now, ended = tonumber(ARGV[3]), 0
local kind, reason, counter = 'e', 'expired', 'expired'
if all then kind, reason, counter = 'd', 'undeliverable', 'dead' end
local start = '-'
while true do
  local entries = redis.call('XRANGE', KEYS[3], start, '+', 'COUNT', 500)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    local found = {}
    for i = 1, #entry[2], 2 do found[entry[2][i]] = entry[2][i + 1] end
    if all or tonumber(found.x) <= now then
      ended = ended + 1
      redis.call('XDEL', KEYS[3], entry[1])
      redis.call('ZREM', KEYS[4], entry[1])
      redis.call('HDEL', KEYS[5], entry[1], 'i:' .. found.i)
      redis.call('XADD', KEYS[2], '*', 'k', kind, 'f', ARGV[1], 'i', found.i, 'b', found.m, 'a', ARGV[2], 'r', reason)
    end
    start = '(' .. entry[1]
  end
end
if ended > 0 then redis.call('HINCRBY', KEYS[1], counter, ended) end
if all then redis.call('DEL', KEYS[3], KEYS[4], KEYS[5]) end
return redis.call('XLEN', KEYS[3])
