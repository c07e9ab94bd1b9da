-- Offered messages are done with. Unknown ids, and those acknowledged before, change nothing.
-- KEYS  counts, history, inbox, pending, offers
-- ARGV  federation, message ids ...
local done = 0
for i = 2, #ARGV do
  local id = redis.call('HGET', KEYS[5], 'i:' .. ARGV[i])
  if id then
    redis.call('HDEL', KEYS[5], id, 'i:' .. ARGV[i])
    redis.call('ZREM', KEYS[4], id)
    if redis.call('XDEL', KEYS[3], id) == 1 then
      done = done + 1
      redis.call('XADD', KEYS[2], '*', 'k', 'a', 'f', ARGV[1], 'i', ARGV[i])
    end
  end
end
if done > 0 then redis.call('HINCRBY', KEYS[1], 'delivered', done) end
return done
