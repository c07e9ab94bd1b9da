-- Offered messages that could not be worked off end in the dead letters, with the reason and what was said last.
-- ARGV  federation, now, agent, reason, error, then for each pack: id, mask
-- Answers how many did only now.
local agent, buried = ARGV[3], 0
last_words = ARGV[5]
for i = 6, #ARGV, 2 do
  local entries = redis.call('HGET', key('box', agent), 'i:' .. ARGV[i])
  for entry in string.gmatch(entries or '', '%S+') do
    local known = facts(agent, entry)
    if known then
      local wanted = string.sub(ARGV[i + 1], known.first + 1, known.first + known.n)
      buried = buried + finish(agent, entry, known, 'd', ARGV[4], wanted .. string.rep('0', known.n - #wanted))
    end
  end
end
return buried
