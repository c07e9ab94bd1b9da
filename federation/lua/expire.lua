-- Ends what waited too long in any inbox of a federation, at most so much.
-- ARGV  federation, now, at most
-- Answers how many packs ended.
local ended = sweep(tonumber(ARGV[3]))
if tonumber(redis.call('HGET', counts, 'queued') or 0) == 0 then redis.call('SREM', KEYS[1] .. 'active', fed) end
return ended
