-- What every step shares; it stands before each script. KEYS[1] is the prefix that all keys have, so that a step
-- may look into any inbox of the federation. ARGV[1] is the federation, ARGV[2] now (ms).
--   inbox:<agent>        stream of packs: i id, f first place, n how many, s sender, h what they share, b one line for
--                        each, p path, x expires at, c correlation id, t whom it is passed on to
--   box:<agent>          hash: seq; n messages inside; m:<entry> what `facts` reads; k:<entry> times offered;
--                        d:<entry> mask of what ended; i:<pack> its entries that were offered
--   waiting:<agent>      entries by the order they are offered in: priority, then arrival
--   pending:<agent>      offered entries by when they are offered again
--   expiry:<federation>  "<agent> <entry>" by when they expire
--   ask:<agent>:<correlation>      a request: deadline, whom it asks (empty: anybody), whether somebody waits
--   answers:<agent>:<correlation>  stream of the replies that came in time
--   readers:<federation>  managed agents whose handler reads their inbox
--   mail                  "<federation> <agent>" of those for whom something waits, by when to look
local fed, now = ARGV[1], tonumber(ARGV[2])
local function key(name, id) return KEYS[1] .. name .. ':' .. id end
local counts, expiry = key('counts', fed), key('expiry', fed)
local STEP = 2 ^ 36 -- between priorities: an inbox takes so many packs in its life

local function count(name, by)
  if by ~= 0 then redis.call('HINCRBY', counts, name, by) end
end

local function note(...)
  redis.call('XADD', KEYS[1] .. 'history', '*', 'f', fed, ...)
end

local function exact(number) return string.format('%.17g', number) end

local function ones(n) return string.rep('1', n) end

-- Of n places, `wanted` and not in `ended`: as a mask, how many, and both together.
local function fresh_of(ended, wanted, n)
  if not ended and wanted == ones(n) then return wanted, n, wanted end
  local fresh, both, number = {}, {}, 0
  for i = 1, n do
    local was = ended and string.byte(ended, i) == 49
    local is = not was and string.byte(wanted, i) == 49
    fresh[i], both[i] = is and '1' or '0', (was or is) and '1' or '0'
    if is then number = number + 1 end
  end
  return table.concat(fresh), number, table.concat(both)
end

local function facts(agent, entry)
  local found = redis.call('HGET', key('box', agent), 'm:' .. entry)
  if not found then return nil end
  local id, first, n, expires, order, to = string.match(found, '^(%S+) (%d+) (%d+) (%d+) (%S+) (%S*)$')
  return {
    id = id, first = tonumber(first), n = tonumber(n), expires = tonumber(expires), order = tonumber(order), to = to,
  }
end

-- A pack into an inbox; `again_at` where it counts as offered already.
local function add(agent, pack, order, again_at)
  local box = key('box', agent)
  local seq = redis.call('HINCRBY', box, 'seq', 1)
  local entry = string.format('%d-0', seq)
  order = order or (9 - pack.priority) * STEP + seq
  redis.call('XADD', key('inbox', agent), entry, 'i', pack.id, 'f', pack.first, 'n', pack.n, 's', pack.sender,
    'h', pack.header, 'b', pack.bodies, 'p', pack.path, 'x', pack.expires, 'c', pack.correlation, 't', pack.to)
  local known = string.format('%s %d %d %s %s %s', pack.id, pack.first, pack.n, pack.expires, exact(order), pack.to)
  redis.call('HSET', box, 'm:' .. entry, known)
  redis.call('ZADD', expiry, pack.expires, agent .. ' ' .. entry)
  if again_at then
    redis.call('ZADD', key('pending', agent), again_at, entry)
  else
    redis.call('ZADD', key('waiting', agent), exact(order), entry)
  end
  return entry
end

-- That it can be acknowledged by its pack's id from now on. Answers how often it was offered.
local function offered(agent, entry, id)
  local box = key('box', agent)
  local times = redis.call('HINCRBY', box, 'k:' .. entry, 1)
  if times == 1 then
    local others = redis.call('HGET', box, 'i:' .. id)
    redis.call('HSET', box, 'i:' .. id, others and (others .. ' ' .. entry) or entry)
  end
  return times
end

local function forget_offer(box, entry, id)
  local rest = {}
  for other in string.gmatch(redis.call('HGET', box, 'i:' .. id) or '', '%S+') do
    if other ~= entry then rest[#rest + 1] = other end
  end
  if #rest > 0 then
    redis.call('HSET', box, 'i:' .. id, table.concat(rest, ' '))
  else
    redis.call('HDEL', box, 'i:' .. id)
  end
end

local function remove(agent, entry, id)
  local box = key('box', agent)
  redis.call('XDEL', key('inbox', agent), entry)
  redis.call('ZREM', key('waiting', agent), entry)
  redis.call('ZREM', key('pending', agent), entry)
  redis.call('ZREM', expiry, agent .. ' ' .. entry)
  redis.call('HDEL', box, 'm:' .. entry, 'k:' .. entry, 'd:' .. entry)
  forget_offer(box, entry, id)
end

-- Some or all of a pack ended. `kind`: a acknowledged, e expired, d dead. Answers how many did only now.
local last_words = '' -- what was said of it last, for its dead letter
local ENDS = {a = 'delivered', e = 'expired', d = 'dead'}
local function finish(agent, entry, known, kind, reason, wanted)
  local box = key('box', agent)
  local fresh, number, both = fresh_of(redis.call('HGET', box, 'd:' .. entry), wanted, known.n)
  if number > 0 then
    count(ENDS[kind], number)
    count('queued', -number)
    redis.call('HINCRBY', box, 'n', -number)
    local whom = known.to ~= '' and known.to or agent
    local said = {'k', kind, 'i', known.id, 'o', known.first, 'x', fresh, 'a', whom, 'r', reason}
    if last_words ~= '' then said[#said + 1], said[#said + 2] = 'w', last_words end
    note(unpack(said))
  end
  if both == ones(known.n) then
    remove(agent, entry, known.id)
  else
    redis.call('HSET', box, 'd:' .. entry, both)
  end
  return number
end

-- Ends what has expired in any inbox of the federation.
local function sweep(most)
  local found = redis.call('ZRANGEBYSCORE', expiry, '-inf', now, 'LIMIT', 0, most)
  for _, each in ipairs(found) do
    local agent, entry = string.match(each, '^(%S+) (%S+)$')
    local known = facts(agent, entry)
    if known then
      finish(agent, entry, known, 'e', 'expired', ones(known.n))
    else
      redis.call('ZREM', expiry, each)
    end
  end
  return #found
end

local function packed(fields)
  local found = {}
  for i = 1, #fields, 2 do found[fields[i]] = fields[i + 1] end
  return {
    id = found.i, first = tonumber(found.f), n = tonumber(found.n), sender = found.s, header = found.h,
    bodies = found.b, path = found.p, expires = found.x, correlation = found.c, to = found.t,
  }
end

local function read(agent, entry)
  local found = redis.call('XRANGE', key('inbox', agent), entry, entry)
  return found[1] and packed(found[1][2])
end

-- A reply to a request of `agent`: nil where it is none, else "late", "held" (somebody waits) or "kept".
local function as_reply(agent, pack)
  if pack.to ~= '' or pack.correlation == '' then return nil end
  local name = agent .. ':' .. pack.correlation
  local asked = redis.call('HMGET', key('ask', name), 'deadline', 'of', 'awaited')
  if not asked[1] or (asked[2] ~= '' and asked[2] ~= pack.sender) then return nil end
  if now > tonumber(asked[1]) then return 'late' end
  redis.call('XADD', key('answers', name), '*', 'i', pack.id, 'h', pack.header, 'b', pack.bodies, 'p', pack.path,
    'x', pack.expires)
  redis.call('PEXPIRE', key('answers', name), math.max(tonumber(asked[1]) - now, 0) + 3600000)
  return asked[3] == '1' and 'held' or 'kept'
end

-- A managed agent that reads its inbox has something in it now. `called` counts those nobody had called yet.
local readers, mail, called = key('readers', fed), KEYS[1] .. 'mail', 0
local has_readers
local function call(agent)
  if has_readers == nil then has_readers = redis.call('EXISTS', readers) == 1 end
  if has_readers and redis.call('SISMEMBER', readers, agent) == 1 then
    called = called + redis.call('ZADD', mail, 'LT', 'CH', now, fed .. ' ' .. agent)
  end
end

-- Into the inbox where it waits, or (a late reply) nowhere. Room was seen to.
local function put(agent, pack, again_at)
  local reply = as_reply(agent, pack)
  if reply == 'late' then
    count('expired', pack.n)
    note('k', 'e', 'i', pack.id, 'o', pack.first, 'x', ones(pack.n), 'a', agent, 'r', 'late')
    return
  end
  count('queued', pack.n)
  redis.call('HINCRBY', key('box', agent), 'n', pack.n)
  local entry = add(agent, pack, nil, reply == 'held' and again_at or nil)
  if reply == 'held' then
    offered(agent, entry, pack.id)
  elseif pack.to == '' then
    call(agent)
  end
end

local function room(agent, limit)
  return math.max(limit - tonumber(redis.call('HGET', key('box', agent), 'n') or 0), 0)
end

-- The lines up to the given one, and those after it.
local function cut(bodies, line)
  local at = 0
  for _ = 1, line do at = string.find(bodies, '\n', at + 1, true) end
  return string.sub(bodies, 1, at - 1), string.sub(bodies, at + 1)
end
