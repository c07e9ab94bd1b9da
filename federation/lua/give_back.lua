-- Offered messages that nobody looked at wait again, in their old place, as if they had not been offered.
-- ARGV  federation, now, agent, then for each pack: id, mask
-- Answers how many entries.
local agent, given = ARGV[3], 0
local box = key('box', agent)

-- An entry is given back as a whole: of one that was looked at in part the rest is offered again in time.
local function give_back(entry, mask)
  local known = facts(agent, entry)
  if not known then return end
  local wanted = string.sub(mask, known.first + 1, known.first + known.n)
  local ended = redis.call('HGET', box, 'd:' .. entry)
  local _, _, both = fresh_of(ended, wanted .. string.rep('0', known.n - #wanted), known.n)
  if both ~= ones(known.n) or redis.call('ZREM', key('pending', agent), entry) == 0 then return end
  redis.call('ZADD', key('waiting', agent), exact(known.order), entry)
  if redis.call('HINCRBY', box, 'k:' .. entry, -1) <= 0 then
    redis.call('HDEL', box, 'k:' .. entry)
    forget_offer(box, entry, known.id)
  end
  given = given + 1
end

for i = 4, #ARGV, 2 do
  local entries = redis.call('HGET', box, 'i:' .. ARGV[i])
  for entry in string.gmatch(entries or '', '%S+') do give_back(entry, ARGV[i + 1]) end
end
return given
