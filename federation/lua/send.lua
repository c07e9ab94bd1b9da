-- Packs of messages into the inboxes of their recipients, counted and noted in the history; each pack all or nothing.
-- ARGV  federation, now, inbox limit, offer again at, how many packs, then for each:
--       id, n, sender, what they share, lines, expires at, priority, correlation id, message id (or empty), answer to
--       give for it, seconds to know it, deadline for a reply (or empty), of whom, awaited, how many targets, then for
--       each target: inbox, passed on to, path, why it is dead (or empty)
-- Answers how many agents are to be called, and for each pack: -1 accepted; a text: sent before, with this answer; 0: no room at all; another number: there is
-- room for so many only; then this pack and those after it were not looked at.
local limit, again_at = tonumber(ARGV[3]), tonumber(ARGV[4])
local at = 5
local function take()
  at = at + 1
  return ARGV[at]
end

local function most_room(targets)
  local most, alive = 0, false
  for _, target in ipairs(targets) do
    if target.reason == '' then
      alive = true
      target.room = room(target.agent, limit)
      most = math.max(most, target.room)
    end
  end
  return alive and most or nil
end

local function bury(pack, target, reason, first, n)
  count('dead', n)
  local whom = target.to ~= '' and target.to or target.agent
  note('k', 'd', 'i', pack.id, 'o', first, 'x', ones(n), 'a', whom, 'r', reason)
end

local function place(pack, target)
  if target.reason ~= '' then return bury(pack, target, target.reason, 0, pack.n) end
  local fits, bodies = math.min(target.room, pack.n), pack.bodies
  if fits < pack.n then
    bury(pack, target, 'full', fits, pack.n - fits)
    if fits == 0 then return end
    bodies = cut(bodies, fits)
  end
  put(target.agent, {
    id = pack.id, first = 0, n = fits, sender = pack.sender, header = pack.header, bodies = bodies, path = target.path,
    expires = pack.expires, priority = pack.priority, correlation = pack.correlation,
    to = target.to,
  }, again_at)
end

local function accept(pack, targets)
  count('accepted', pack.n * #targets)
  note('k', 'm', 'i', pack.id, 'n', pack.n, 'h', pack.header, 'b', pack.bodies)
  for _, target in ipairs(targets) do place(pack, target) end
  if #targets > 0 then redis.call('SADD', KEYS[1] .. 'active', fed) end
end

local function remember(pack, dedup, answer, known_for, deadline, of, awaited)
  if dedup ~= '' then redis.call('SET', key('dedup', fed .. ':' .. dedup), answer, 'EX', known_for) end
  if deadline == '' then return end
  local ask = key('ask', pack.sender .. ':' .. pack.correlation)
  redis.call('HSET', ask, 'deadline', deadline, 'of', of, 'awaited', awaited)
  redis.call('PEXPIRE', ask, math.max(tonumber(deadline) - now, 0) + 86400000)
end

sweep(200)
local answers = {}
for number = 1, tonumber(ARGV[5]) do
  local pack = {
    id = take(), n = tonumber(take()), sender = take(), header = take(), bodies = take(), expires = take(),
    priority = tonumber(take()), correlation = take(),
  }
  local dedup, answer, known_for, deadline, of, awaited = take(), take(), take(), take(), take(), take()
  local targets = {}
  for i = 1, tonumber(take()) do targets[i] = {agent = take(), to = take(), path = take(), reason = take()} end
  local before = dedup ~= '' and redis.call('GET', key('dedup', fed .. ':' .. dedup))
  local most = most_room(targets)
  if before then
    answers[number] = before
  elseif most and most < pack.n then
    answers[number] = most
    if most > 0 then return {called, answers} end
  else
    -- Asked before it is accepted: a reply cannot overtake its request.
    remember(pack, dedup, answer, known_for, deadline, of, awaited)
    accept(pack, targets)
    answers[number] = -1
  end
end
return {called, answers}
