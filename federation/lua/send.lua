-- One message into the inboxes of its recipients, counted and noted in the history, all or nothing.
-- KEYS  counts, history, dedup, active, then an inbox for each recipient
-- ARGV  federation, message id, message, answer, expires at (ms), inbox limit, dedup seconds (0: none), recipient and path ...
-- Answers {"ok", answer}, {"again", first answer} or {"full"}.
local first = 7
if tonumber(ARGV[7]) > 0 then
  local before = redis.call('GET', KEYS[3])
  if before then return {'again', before} end
end
local limit, room, total = tonumber(ARGV[6]), {}, #KEYS - 4
local fits = 0
for i = 1, total do
  room[i] = redis.call('XLEN', KEYS[4 + i]) < limit
  if room[i] then fits = fits + 1 end
end
if total > 0 and fits == 0 then return {'full'} end
redis.call('XADD', KEYS[2], '*', 'k', 'm', 'f', ARGV[1], 'i', ARGV[2], 'b', ARGV[3])
for i = 1, total do
  local agent, path = ARGV[first + 2 * i - 1], ARGV[first + 2 * i]
  if room[i] then
    redis.call('XADD', KEYS[4 + i], '*', 'm', ARGV[3], 'i', ARGV[2], 'p', path, 'x', ARGV[5])
  else
    redis.call('HINCRBY', KEYS[1], 'dead', 1)
    redis.call('XADD', KEYS[2], '*', 'k', 'd', 'f', ARGV[1], 'i', ARGV[2], 'b', ARGV[3], 'a', agent, 'r', 'full')
  end
end
if total > 0 then
  redis.call('HINCRBY', KEYS[1], 'accepted', total)
  redis.call('SADD', KEYS[4], ARGV[1])
end
if tonumber(ARGV[7]) > 0 then redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[7]) end
return {'ok', ARGV[4]}
