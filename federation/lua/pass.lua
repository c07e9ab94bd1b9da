-- What an agent passes on goes to the next inbox, or (with a reason) to the dead letters. Twice is once.
-- ARGV  federation, now, agent, entry, inbox limit, offer again at, next inbox, passed on to, path, why it is dead (or empty)
-- Answers 1, 0 where it is here no more, or -1 where the next inbox is full: then it stays.
local agent, entry, next_agent = ARGV[3], ARGV[4], ARGV[7]
local known = facts(agent, entry)
if not known then return 0 end
if known.expires <= now then
  finish(agent, entry, known, 'e', 'expired', ones(known.n))
  return 0
end
if ARGV[10] ~= '' then return finish(agent, entry, known, 'd', ARGV[10], ones(known.n)) end
if room(next_agent, tonumber(ARGV[5])) < known.n then return -1 end
local pack = read(agent, entry)
remove(agent, entry, known.id)
count('queued', -known.n)
redis.call('HINCRBY', key('box', agent), 'n', -known.n)
pack.priority, pack.to, pack.path = 9 - math.floor(known.order / STEP), ARGV[8], ARGV[9]
put(next_agent, pack, tonumber(ARGV[6]))
return 1
