-- When to look for an agent again: at once where something waits, else when something is offered again, else never.
-- ARGV  federation, now, agent, not before
local agent, box = ARGV[3], fed .. ' ' .. ARGV[3]
local at
if redis.call('ZCARD', key('waiting', agent)) > 0 then
  at = now
else
  at = tonumber(redis.call('ZRANGE', key('pending', agent), 0, 0, 'WITHSCORES')[2])
end
if at then
  redis.call('ZADD', mail, math.max(at, tonumber(ARGV[4])), box)
else
  redis.call('ZREM', mail, box)
end
return 1
