-- The agent left: what waits in its inbox is dead.
-- ARGV  federation, now, agent
local agent = ARGV[3]
local inbox = key('inbox', agent)
sweep(200)
while true do
  local entries = redis.call('XRANGE', inbox, '-', '+', 'COUNT', 500)
  if #entries == 0 then break end
  for _, each in ipairs(entries) do
    local known = facts(agent, each[1])
    finish(agent, each[1], known, 'd', 'undeliverable', ones(known.n))
  end
end
redis.call('SREM', readers, agent)
redis.call('ZREM', mail, fed .. ' ' .. agent)
redis.call('DEL', inbox, key('box', agent), key('waiting', agent), key('pending', agent))
return 1
